"""Sources that change, lie or lead away while the night goes on."""

import fcntl
import json
import os

import numpy as np
import pytest
import zarr
from s3fs import S3FileSystem

from pipeline.errors import SegflowError, SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, case, ingest
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.location import locate
from pipeline.io.readers import stacked
from pipeline.io.readers.containers.numpy_file import open_source
from pipeline.run import RunSettings, run_stage
from pipeline.space import Window

CLASSES = (
    ClassSettings(name="background", values=(0,), background=True),
    ClassSettings(name="object", values=(1,)),
)


def test_a_file_that_changes_after_its_voxels_were_read_is_refused_and_taken_in_next_time(
    tmp_path, make_msd, take_in, write_scan, monkeypatch
):
    data = make_msd(tmp_path / "data", cases=2)
    image = tmp_path / "data" / "imagesTr" / "liver_1.nii.gz"
    read_through = case.read_through

    def overtaken(opened, *others):
        found = read_through(opened, *others)
        if opened.image.path == image:
            write_scan(image, np.full((9, 11, 7), 200, np.float32))
        return found

    monkeypatch.setattr(case, "read_through", overtaken)
    refused = take_in(data, tmp_path).refused
    assert "its files changed while they were read" in refused["liver_1"].reason
    monkeypatch.undo()
    assert take_in(data, tmp_path).complete == {"liver_0", "liver_1"}


def test_a_file_of_several_replaced_by_one_of_its_size_and_an_older_time_is_met(
    tmp_path, write_picture, take_in
):
    root = tmp_path / "data"
    write_picture(root / "x/images/x.png", np.full((30, 30), 9, np.uint8))
    for number in (1, 2):
        mask = np.zeros((30, 30), np.uint8)
        mask[number * 4 : number * 4 + 3, 5:9] = 255
        write_picture(root / f"x/masks/{number}.png", mask)
    data = DataSettings(
        root=str(root), layout="pairs", classes=CLASSES,
        images="{case}/images/{case}.png", masks="{case}/masks/*.png",
    )  # fmt: skip
    first = take_in(data, tmp_path).rows["x"]
    path = root / "x/masks/1.png"
    size = path.stat().st_size
    moved = np.zeros((30, 30), np.uint8)
    moved[20:23, 5:9] = 255
    write_picture(path, moved)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    assert path.stat().st_size == size
    os.utime(path, ns=(1, 1))
    assert take_in(data, tmp_path).rows["x"].key != first.key


@pytest.mark.parametrize(
    "name",
    ["a\0b.nii.gz", "\ud800.nii.gz", "x" * 300 + ".nii.gz"],
    ids=["nul", "half a surrogate", "too long"],
)
def test_a_name_that_no_file_system_holds_is_one_bad_case(tmp_path, make_msd, take_in, name):
    data = make_msd(tmp_path / "data")
    listing = json.loads((tmp_path / "data" / "dataset.json").read_text())
    listing["training"].append({"image": name, "label": "./labelsTr/liver_0.nii.gz"})
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(listing))
    taken = take_in(data, tmp_path)
    assert len(taken.complete) == 4 and len(taken.refused) == 1


def test_a_link_inside_a_zarr_folder_is_refused(tmp_path, take_in):
    secret = tmp_path / "secret"
    for place, value in ((secret, 42), (tmp_path / "data/images/a.zarr", 7)):
        array = zarr.create_array(place, shape=(8, 8), chunks=(8, 8), dtype="uint8")
        array[:] = value
    chunk = tmp_path / "data/images/a.zarr/c/0/0"
    chunk.unlink()
    chunk.symlink_to(secret / "c/0/0")
    good = zarr.create_array(
        tmp_path / "data/images/b.zarr", shape=(8, 8), chunks=(8, 8), dtype="uint8"
    )
    good[:] = 5
    data = DataSettings(root=str(tmp_path / "data"), layout="pairs", masks=None, classes=CLASSES)
    taken = take_in(data, tmp_path)
    assert taken.complete == {"b"}
    assert "a.zarr holds links" in taken.refused["a"].reason


def test_chosen_bands_are_taken_piece_by_piece(tmp_path, monkeypatch):
    voxels = np.random.default_rng(0).integers(0, 255, (20, 9, 30, 25)).astype(np.uint8)
    np.save(tmp_path / "a.npy", voxels)
    monkeypatch.setattr(stacked, "PIECE_BYTES", 5000)
    source = stacked.BandsSource(open_source(tmp_path / "a.npy", "image"), (17, 3))
    window = Window((1, 2, 3), (7, 25, 20))
    np.testing.assert_array_equal(source.read(window).array, voxels[[16, 2], 1:8, 2:27, 3:23])


def test_stores_that_another_run_is_writing_are_left_alone(tmp_path, make_msd):
    data = make_msd(tmp_path / "data")
    settings = RunSettings(
        name="two", run_dir=str(tmp_path / "run"), data=data,
        ingest=IngestSettings(store=str(tmp_path / "shared")),
        execute=ExecuteSettings(on="serial"),
    )  # fmt: skip
    (tmp_path / "shared").mkdir()
    with (tmp_path / "shared" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SegflowError, match="another segflow is at work in .*shared"):
            run_stage("ingest", settings)
    run_stage("ingest", settings)


def test_an_object_store_that_does_not_answer_is_one_sentence(tmp_path, make_msd, monkeypatch):
    for key, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(key, value)
    S3FileSystem.clear_instance_cache()
    data = make_msd(tmp_path / "data")
    with pytest.raises(SettingsError, match=r"ingest.store: s3://gone.* cannot be reached"):
        ingest(
            data, IngestSettings(), ExecuteSettings(on="serial"),
            manifest=tmp_path / "m.jsonl", quarantine=tmp_path / "q.jsonl",
            volumes=locate("s3://gone/volumes"),
        )  # fmt: skip
