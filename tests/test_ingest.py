"""Ingest: the good cases come through, the bad ones are named, nothing is done twice."""

import json
import re
import shutil

import numpy as np
import pytest

from pipeline.errors import NothingUsableError, SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, check
from pipeline.ingest.deal import deal
from pipeline.ingest.ingest import plan_ingest
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import discover
from pipeline.io.volume_store import VolumeStore
from pipeline.space import Window

NO_SPLITS = IngestSettings(test_fraction=0, val_fraction=0)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def listing(root, change):
    path = root / "dataset.json"
    content = json.loads(path.read_text())
    change(content["training"])
    path.write_text(json.dumps(content))


def missing_image(root, tools):
    (root / "imagesTr" / "liver_1.nii.gz").unlink()


def missing_mask(root, tools):
    (root / "labelsTr" / "liver_1.nii.gz").unlink()


def truncated_image(root, tools):
    truncate(root / "imagesTr" / "liver_1.nii.gz")


def truncated_mask(root, tools):
    truncate(root / "labelsTr" / "liver_1.nii.gz")


def mask_of_other_shape(root, tools):
    tools["scan"](root / "labelsTr" / "liver_1.nii.gz", np.zeros((9, 11, 6), np.uint8))


def mask_elsewhere(root, tools):
    voxels = np.zeros((9, 11, 7), np.uint8)
    tools["scan"](root / "labelsTr" / "liver_1.nii.gz", voxels, np.eye(4))


def unknown_value(root, tools):
    tools["scan"](root / "labelsTr" / "liver_1.nii.gz", np.full((9, 11, 7), 7, np.uint8))


def nan_image(root, tools):
    voxels = np.ones((9, 11, 7), np.float32)
    voxels[2, 3, 4] = np.nan
    tools["scan"](root / "imagesTr" / "liver_1.nii.gz", voxels)


def infinite_image(root, tools):
    voxels = np.ones((9, 11, 7), np.float32)
    voxels[2, 3, 4] = -np.inf
    tools["scan"](root / "imagesTr" / "liver_1.nii.gz", voxels)


def twins(root, tools):
    listing(root, lambda rows: rows.append(rows[1]))


def escape(root, tools):
    shutil.copy(root / "imagesTr" / "liver_1.nii.gz", root.parent)
    listing(root, lambda rows: rows[1].update(image="../liver_1.nii.gz"))


def unknown_format(root, tools):
    (root / "imagesTr" / "liver_1.xyz").write_bytes(b"")
    listing(root, lambda rows: rows[1].update(image="imagesTr/liver_1.xyz"))


BAD = {
    missing_image: (r"liver_1.nii.gz does not exist", "Restore the file"),
    missing_mask: (r"liver_1.nii.gz does not exist", "Restore the file"),
    truncated_image: (r"liver_1.nii.gz cannot be read: it is truncated", "Copy the file again"),
    truncated_mask: (r"liver_1.nii.gz cannot be read: it is truncated", "Copy the file again"),
    mask_of_other_shape: (r"its mask has shape \(6, 11, 9\), its image \(7, 11, 9\)", "Draw or"),
    mask_elsewhere: (
        r"its mask lies elsewhere than its image: its corners lie up",
        "data.mask_grid",
    ),
    unknown_value: (r"the value 7, which is of no class \(known: 0, 1, 2\)", "Correct the mask"),
    nan_image: (r"its image holds NaN or infinity in 1 of 693 voxels", "set data.nodata to .nan"),
    infinite_image: (r"its image holds NaN or infinity in 1 of 693", "Correct the image"),
    twins: (r"liver_1.nii.gz and liver_1.nii.gz are both case liver_1", "Rename or remove"),
    escape: (r"it names a file outside the dataset's folder", "Move or copy the file into"),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_a_bad_case_is_quarantined_with_reason_and_remedy_and_the_others_finish(
    tmp_path, make_msd, take_in, write_scan, spoil
):
    data = make_msd(tmp_path / "data")
    spoil(tmp_path / "data", {"scan": write_scan})
    taken = take_in(data, tmp_path)
    reason, remedy = BAD[spoil]
    [(case, row)] = taken.refused.items()
    assert (case, row.stage) == ("liver_1", "ingest")
    assert re.search(reason, row.reason) and remedy in row.remedy
    assert taken.complete == {"liver_0", "liver_2", "liver_3"}
    assert taken.rows["liver_1"].status == "quarantined"
    # Neither a store nor the beginnings of one.
    assert {p.stem for p in taken.volumes.iterdir()} == taken.complete


def test_a_file_of_unknown_format_is_a_bad_case_under_its_full_name(tmp_path, make_msd, take_in):
    data = make_msd(tmp_path / "data")
    unknown_format(tmp_path / "data", {})
    assert (
        "liver_1.xyz is of no known format" in take_in(data, tmp_path).refused["liver_1.xyz"].reason
    )


def spoil_pairs(root, tools):
    (root / "masks" / "tile_0.png").unlink()
    (root / "images" / "tile_1.tif").unlink()
    tools["picture"](root / "masks" / "tile_2.png", np.ones((20, 23), np.uint8))
    tools["picture"](root / "masks" / "tile_3.png", np.full((20, 24), 3, np.uint8))
    tools["scene"](root / "masks" / "tile_4.tif", np.ones((1, 20, 24), np.uint8))
    tools["scene"](root / "images" / "tile_5.tif", np.zeros((3, 20, 24), np.uint8), nodata=0)
    shutil.copy(root / "images" / "tile_6.tif", root / "images" / "tile_6.tiff")
    (root / "masks" / "tile_7.png").unlink()
    tools["scene"](root / "masks" / "tile_7.tif", np.ones((1, 20, 24), np.uint8), "EPSG:32634")


def test_every_bad_pair_is_named_and_the_good_ones_finish(
    tmp_path, make_pairs, take_in, write_picture, write_scene
):
    data = make_pairs(tmp_path / "data", cases=10)
    spoil_pairs(tmp_path / "data", {"picture": write_picture, "scene": write_scene})
    taken = take_in(data, tmp_path)
    expected = {
        "tile_0": "tile_0.tif has no mask in masks/",
        "tile_1": "the mask tile_1.png has no image in images/",
        "tile_2": "its mask has shape (20, 23), its image (20, 24)",
        "tile_3": "its mask holds the value 3, which is of no class (known: 1, 2)",
        "tile_4": "masks/ holds 2 masks of case tile_4",
        "tile_5": "its image holds no data anywhere",
        "tile_6": "tile_6.tif and tile_6.tiff are both case tile_6",
        "tile_7": "its mask lies elsewhere than its image: it is in another coordinate reference",
    }
    assert expected.keys() == taken.refused.keys()
    for case, reason in expected.items():
        assert reason in taken.refused[case].reason and taken.refused[case].remedy
    assert taken.complete == {"tile_8", "tile_9"}


def test_an_image_without_a_mask_is_predicted_where_the_settings_say_so(
    tmp_path, make_pairs, take_in
):
    data = make_pairs(tmp_path / "data", unlabelled="predict")
    (tmp_path / "data" / "masks" / "tile_0.png").unlink()
    taken = take_in(data, tmp_path)
    assert taken.rows["tile_0"].split == "unlabelled" and not taken.refused
    assert not VolumeStore(taken.volumes / "tile_0.zarr").labelled


def test_cases_of_the_test_list_are_unlabelled(tmp_path, make_msd, take_in, write_scan):
    data = make_msd(tmp_path / "data")
    write_scan(tmp_path / "data" / "imagesTs" / "liver_9.nii.gz", np.ones((9, 11, 7), np.float32))
    path = tmp_path / "data" / "dataset.json"
    content = {**json.loads(path.read_text()), "test": ["./imagesTs/liver_9.nii.gz"]}
    path.write_text(json.dumps(content))
    assert take_in(data, tmp_path).rows["liver_9"].split == "unlabelled"


def test_nothing_usable_is_one_sentence_with_the_first_reason(tmp_path, make_msd, take_in):
    data = make_msd(tmp_path / "data", cases=2)
    shutil.rmtree(tmp_path / "data" / "labelsTr")
    with pytest.raises(
        NothingUsableError, match=r"all 2 cases are unusable; liver_0: .* does not exist. Restore"
    ):
        take_in(data, tmp_path)


def test_an_empty_folder_holds_no_case(tmp_path, make_pairs, take_in):
    data = make_pairs(tmp_path / "data", cases=0)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    with pytest.raises(NothingUsableError, match=r"holds no case: check data\.layout"):
        take_in(data, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "nowhere"}, "data.root: nowhere is not a folder: give the dataset's folder"),
        ({"images": "pictures"}, r"data.images: .*pictures is not a folder"),
        ({"masks": "../.."}, r"data.masks: ../.. leaves the dataset's folder"),
        ({"layout": "msd"}, "dataset.json is not a Decathlon listing"),
    ],
)
def test_settings_that_lead_nowhere_are_named_by_their_key(tmp_path, make_pairs, changes, message):
    data = make_pairs(tmp_path / "data").model_copy(update=changes)
    with pytest.raises(SettingsError, match=message):
        discover(data)


def test_hidden_and_foreign_files_are_no_cases(tmp_path, make_pairs):
    data = make_pairs(tmp_path / "data", cases=2)
    for name in ("._tile_0.tif", "Thumbs.db", "notes.txt"):
        (tmp_path / "data" / "images" / name).write_bytes(b"")
    assert [c.case for c in discover(data)] == ["tile_0", "tile_1"]


def test_mask_values_become_class_numbers_and_the_rest_is_no_label(
    tmp_path, make_pairs, take_in, write_scene
):
    data = make_pairs(tmp_path / "data", cases=1, ignore_values=(-1,))
    (tmp_path / "data" / "masks" / "tile_0.png").unlink()
    mask = np.resize(np.array([1, 2, -1, np.nan], np.float32), (1, 20, 24))
    write_scene(tmp_path / "data" / "masks" / "tile_0.tif", mask)
    store = VolumeStore(take_in(data, tmp_path, NO_SPLITS).volumes / "tile_0.zarr")
    labels = store.read_truth(Window.whole((20, 24)))
    np.testing.assert_array_equal(labels, np.resize([0, 1, 255, 255], (20, 24)))
    assert store.statistics["class_voxels"] == [120, 120]


def test_nan_is_no_data_where_the_settings_say_so(tmp_path, make_msd, take_in, write_scan):
    data = make_msd(tmp_path / "data", cases=1).model_copy(update={"nodata": float("nan")})
    nan_image(
        tmp_path / "data", {"scan": lambda path, v: write_scan(path.parent / "liver_0.nii.gz", v)}
    )
    store = VolumeStore(take_in(data, tmp_path, NO_SPLITS).volumes / "liver_0.zarr")
    volume = store.read(Window.whole(store.grid.shape))
    assert (~volume.valid).sum() == 1 and not volume.valid[4, 3, 2]
    assert store.read_truth(Window((4, 3, 2), (1, 1, 1))) == 255


def test_a_second_ingest_touches_nothing(tmp_path, make_msd, take_in, times):
    data = make_msd(tmp_path / "data")
    first = take_in(data, tmp_path / "run")
    before = times(tmp_path / "run")
    assert take_in(data, tmp_path / "run").rows == first.rows
    assert times(tmp_path / "run") == before


def test_a_changed_source_gives_a_new_store_and_leaves_the_others(
    tmp_path, make_msd, take_in, write_scan, times
):
    data = make_msd(tmp_path / "data")
    first = take_in(data, tmp_path / "run")
    before = {p.name: times(p) for p in first.volumes.iterdir()}
    voxels = np.full((9, 11, 7), 5, np.float32)
    write_scan(tmp_path / "data" / "imagesTr" / "liver_1.nii.gz", voxels)
    second = take_in(data, tmp_path / "run")
    assert second.rows["liver_1"].key != first.rows["liver_1"].key
    assert VolumeStore(second.volumes / "liver_1.zarr").statistics["channels"][0]["mean"] == 5
    changed = {p.name for p in second.volumes.iterdir() if times(p) != before[p.name]}
    assert changed == {"liver_1.zarr"}


def test_a_mended_case_leaves_the_quarantine(tmp_path, make_msd, take_in):
    data = make_msd(tmp_path / "data")
    path = tmp_path / "data" / "imagesTr" / "liver_1.nii.gz"
    whole = path.read_bytes()
    truncate(path)
    assert take_in(data, tmp_path / "run").refused.keys() == {"liver_1"}
    path.write_bytes(whole)
    again = take_in(data, tmp_path / "run")
    assert not again.refused and len(again.complete) == 4


def test_a_case_that_breaks_later_keeps_its_split(tmp_path, make_msd, take_in):
    data = make_msd(tmp_path / "data")
    before = take_in(data, tmp_path / "run").rows
    truncate(tmp_path / "data" / "imagesTr" / "liver_1.nii.gz")
    after = take_in(data, tmp_path / "run").rows
    assert after["liver_1"].status == "quarantined"
    assert {c: r.split for c, r in after.items()} == {c: r.split for c, r in before.items()}


def dealt(data, cases, known=(), **settings):
    return {r.id: r for r in deal(cases, data, IngestSettings(**settings), known)}


def test_shares_are_held_and_every_fold_is_used(tmp_path, make_msd):
    data = make_msd(tmp_path / "data", cases=40, shape=(2, 2, 2))
    rows = dealt(data, discover(data)).values()
    splits = [r.split for r in rows]
    assert [splits.count(s) for s in ("test", "val", "train")] == [8, 4, 28]
    assert {r.fold for r in rows if r.split == "train"} == set(range(5))
    assert {r.fold for r in rows if r.split != "train"} == {None}


def test_cases_of_one_group_never_part(tmp_path, make_msd):
    data = make_msd(tmp_path / "data", cases=30, shape=(2, 2, 2))
    grouped = data.model_copy(update={"group": r"liver_\d*(\d)"})
    rows = dealt(grouped, discover(grouped)).values()
    places = {(r.group, r.split, r.fold) for r in rows}
    assert len(places) == len({r.group for r in rows}) == 10


def test_added_cases_change_no_split_and_the_shares_are_kept(tmp_path, make_msd):
    data = make_msd(tmp_path / "data", cases=40, shape=(2, 2, 2))
    cases = discover(data)
    known = dealt(data, cases[::2])
    rows = dealt(data, cases, known.values())
    assert all(rows[case].split == row.split for case, row in known.items())
    assert all(rows[case].fold == row.fold for case, row in known.items())
    assert sum(r.split == "test" for r in rows.values()) == 8


def test_splits_follow_the_seed_and_not_the_order_of_the_files(tmp_path, make_msd):
    data = make_msd(tmp_path / "data", cases=20, shape=(2, 2, 2))
    cases = discover(data)
    assert dealt(data, cases) == dealt(data, cases[::-1])
    assert dealt(data, cases) != dealt(data, cases, seed=1)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_cases_leave_one_to_train_on(tmp_path, make_msd, count):
    data = make_msd(tmp_path / "data", cases=count, shape=(2, 2, 2))
    splits = [r.split for r in dealt(data, discover(data)).values()]
    assert "train" in splits
    assert ("test" in splits) == ("val" in splits) == (count > 2)


def test_planning_opens_no_file(tmp_path, make_msd):
    data = make_msd(tmp_path / "data", cases=3)
    cases = discover(data)
    shutil.rmtree(tmp_path / "data" / "imagesTr")
    tasks = plan_ingest(data, cases, tmp_path / "volumes")
    assert [t.store.name for t in tasks] == ["liver_0.zarr", "liver_1.zarr", "liver_2.zarr"]


def test_check_says_what_ingest_would_and_writes_nothing(tmp_path, make_msd):
    data = make_msd(tmp_path / "data")
    truncated_image(tmp_path / "data", {})
    before = set(tmp_path.rglob("*"))
    serial = ExecuteSettings(on="serial")
    found = check(data, IngestSettings(), serial, manifest=tmp_path / "manifest.jsonl")
    rows = found.to_json()["cases"]
    assert set(tmp_path.rglob("*")) == before
    assert [r["status"] for r in rows] == ["ok", "refused", "ok", "ok"]
    [finding] = rows[1]["findings"]
    assert "truncated" in finding["reason"] and rows[0]["shape"] == [7, 11, 9]
    assert sum(rows[0]["class_voxels"].values()) == 7 * 11 * 9


def test_dask_workers_and_one_process_write_the_same_bytes(tmp_path, make_msd, take_in, tree):
    data = make_msd(tmp_path / "data", cases=6)
    truncated_image(tmp_path / "data", {})
    serial = take_in(data, tmp_path / "serial")
    dask = take_in(data, tmp_path / "dask", execute=ExecuteSettings(on="local", workers=2))
    assert dask.refused.keys() == serial.refused.keys() == {"liver_1"}
    assert tree(tmp_path / "dask") == tree(tmp_path / "serial")


def test_real_amazon_scenes_come_through_but_the_one_whose_mask_is_too_small(
    tmp_path, real_data, take_in
):
    data = DataSettings(
        root=str(real_data("amazon_forest")),
        layout="pairs",
        classes=({"name": "clear", "values": (1,)}, {"name": "forest", "values": (2,)}),
    )
    taken = take_in(data, tmp_path)
    assert len(taken.refused) == 1 and len(taken.complete) == len(taken.rows) - 1
    assert "its mask has shape" in next(iter(taken.refused.values())).reason


def test_real_floods_agree_on_their_place_and_their_holes(tmp_path, real_data, take_in):
    flood = real_data("sen1floods11")
    for role, name in [("images", "S1Hand"), ("masks", "LabelHand")]:
        (tmp_path / "data" / role).mkdir(parents=True)
        [path] = flood.glob(f"*_{name}.tif")
        shutil.copy(path, tmp_path / "data" / role / "spain.tif")
    data = DataSettings(
        root=str(tmp_path / "data"),
        layout="pairs",
        classes=(
            {"name": "dry", "values": (0,), "background": True},
            {"name": "water", "values": (1,)},
        ),
        ignore_values=(-1,),
    )
    taken = take_in(data, tmp_path, NO_SPLITS)
    assert not taken.refused
    assert VolumeStore(taken.volumes / "spain.zarr").channels == ("0", "1")
