"""Check: what ingest would refuse is refused in the same words, what is odd is told, and nothing
is written."""

import json
import shutil

import numpy as np
import pytest
import rasterio

from pipeline.errors import SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, check
from pipeline.ingest.checking import dataset, listing
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.discover import CaseFiles
from pipeline.io.origin import one_file

SERIAL = ExecuteSettings(on="serial")


def look(data, folder, settings=None, execute=SERIAL):
    manifest = folder / "manifest.jsonl"
    return check(data, settings or IngestSettings(), execute, manifest=manifest)


def told(found):
    """Case and code of every finding."""
    return {(f.case, f.code) for f in found.findings}


def only(found):
    """The one finding there is."""
    [finding] = found.findings
    return finding


def relist(root, **changes):
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Sound datasets


@pytest.mark.parametrize("make", ["make_msd", "make_pairs"])
def test_of_a_sound_dataset_there_is_nothing_to_say(tmp_path, request, make):
    data = request.getfixturevalue(make)(tmp_path / "data", cases=12)
    found = look(data, tmp_path)
    assert not found.findings
    assert {row["status"] for row in found.to_json()["cases"]} == {"ok"}


def test_a_row_says_what_a_case_is(tmp_path, make_pairs):
    data = make_pairs(tmp_path / "data")
    row = look(data, tmp_path).to_json()["cases"][0]
    assert sum(row.pop("class_voxels").values()) == 20 * 24
    assert row == {
        "case": "tile_0",
        "status": "ok",
        "split": row["split"],
        "shape": [20, 24],
        "channels": 3,
        "dtype": "uint8",
        "spacing": [10, 10],
        "unit": "meter",
        "crs": "WGS 84 / UTM zone 33N",
        "valid_share": 1,
        "findings": [],
    }


def test_the_dataset_is_summed_up_over_its_usable_cases(tmp_path, make_msd):
    found = look(make_msd(tmp_path / "data"), tmp_path).to_json()
    dataset, counts = found["dataset"], found["counts"]
    assert dataset["shapes"]["median"] == [7, 11, 9]
    assert (dataset["channels"], dataset["dtypes"]) == ({"1": 4}, {"float32": 4})
    assert dataset["classes"].keys() == {"background", "liver", "tumour"}
    assert sum(c["voxels"] for c in dataset["classes"].values()) == 4 * 7 * 11 * 9
    assert sum(c["share"] for c in dataset["classes"].values()) == pytest.approx(1, abs=1e-5)
    assert (counts["cases"], counts["ok"], counts["labelled"]) == (4, 4, 4)


def test_nothing_is_written_and_workers_find_the_same(tmp_path, make_msd, tree, monkeypatch):
    # So small a dataset would be read here before workers have started.
    monkeypatch.setattr(dataset, "FEW_BYTES", 0)
    data = make_msd(tmp_path / "data")
    (tmp_path / "data/labelsTr/liver_1.nii.gz").unlink()
    before = tree(tmp_path)
    serial = look(data, tmp_path)
    dask = look(data, tmp_path, execute=ExecuteSettings(on="local", workers=2))
    assert tree(tmp_path) == before
    assert serial.to_json() == dask.to_json()


# What ingest would refuse


def spoil(root, write_scene, write_picture):
    """A pair of every kind that ingest refuses."""
    (root / "masks/tile_0.png").unlink()
    (root / "images/tile_1.tif").write_bytes(b"II*\0 no image")
    write_picture(root / "masks/tile_2.png", np.ones((20, 23), np.uint8))
    write_picture(root / "masks/tile_3.png", np.full((20, 24), 3, np.uint8))
    write_scene(root / "images/tile_4.tif", np.zeros((3, 20, 24), np.uint8), nodata=0)
    write_scene(root / "images/tile_5.tif", np.full((3, 20, 24), np.nan, np.float32))
    write_scene(root / "images/tile_6.tif", np.ones((2, 20, 24), np.uint8))


CODES = {
    "tile_0": "unmatched-files",
    "tile_1": "unreadable-image",
    "tile_2": "unfit-mask",
    "tile_3": "unusable-voxels",
    "tile_4": "unusable-voxels",
    "tile_5": "unusable-voxels",
    "tile_6": "odd-one-out",
}


def test_check_refuses_what_ingest_refuses_in_the_same_words(
    tmp_path, make_pairs, take_in, write_scene, write_picture
):
    data = make_pairs(tmp_path / "data", cases=12)
    spoil(tmp_path / "data", write_scene, write_picture)
    refused = [f for f in look(data, tmp_path).findings if f.level == "refused"]
    taken = take_in(data, tmp_path).refused
    assert {f.case: f.code for f in refused} == CODES
    assert {f.case: (f.reason, f.remedy) for f in refused} == {
        case: (row.reason, row.remedy) for case, row in taken.items()
    }


def test_a_file_that_is_gone_is_a_missing_file(tmp_path, make_msd):
    data = make_msd(tmp_path / "data")
    (tmp_path / "data/imagesTr/liver_1.nii.gz").unlink()
    assert told(look(data, tmp_path)) == {("liver_1", "missing-file")}


def test_a_refused_case_is_described_as_far_as_its_image_can_be_opened(
    tmp_path, make_pairs, write_picture
):
    data = make_pairs(tmp_path / "data")
    write_picture(tmp_path / "data/masks/tile_2.png", np.ones((20, 23), np.uint8))
    row = look(data, tmp_path).to_json()["cases"][2]
    assert (row["status"], row["shape"], row["valid_share"]) == ("refused", [20, 24], None)


def test_groups_that_splits_have_parted_are_a_wrong_setting(tmp_path, make_msd, take_in):
    data = make_msd(tmp_path / "data")
    take_in(data, tmp_path)
    with pytest.raises(SettingsError, match="splits are fixed"):
        look(data.model_copy(update={"group": "liver"}), tmp_path)


# What a person should look at: voxels


def test_an_image_or_a_channel_of_one_value_is_told(tmp_path, make_pairs, write_scene):
    data = make_pairs(tmp_path / "data")
    bands = np.random.default_rng(0).integers(1, 255, (3, 20, 24), np.uint8)
    bands[1] = 7
    write_scene(tmp_path / "data/images/tile_1.tif", bands)
    write_scene(tmp_path / "data/images/tile_2.tif", np.full((3, 20, 24), 9, np.uint8))
    found = look(data, tmp_path)
    assert told(found) == {("tile_1", "constant-channel"), ("tile_2", "constant-image")}
    reasons = {f.reason for f in found.findings}
    assert "its image holds one value everywhere in channel 2 of 3." in reasons
    assert "its image holds the value 9 everywhere." in reasons
    assert [r["status"] for r in found.to_json()["cases"]] == ["ok", "warning", "warning", "ok"]


def test_masks_that_mark_nothing_are_told(tmp_path, make_msd, write_scan):
    data = make_msd(tmp_path / "data").model_copy(update={"ignore_values": (9,)})
    for case, value in ((0, 0), (1, 9)):
        mask = np.full((9, 11, 7), value, np.uint8)
        write_scan(tmp_path / f"data/labelsTr/liver_{case}.nii.gz", mask)
    found = told(look(data, tmp_path))
    assert {("liver_0", "only-background"), ("liver_1", "empty-mask")} <= found


def test_a_copy_under_another_name_is_told_and_worse_where_splits_part_it(tmp_path, make_msd):
    data = make_msd(tmp_path / "data", cases=6)
    splits = {r["case"]: r["split"] for r in look(data, tmp_path).to_json()["cases"]}
    [held_out] = [case for case, split in splits.items() if split == "test"]
    first, second = [case for case, split in splits.items() if split == "train"][:2]
    images = tmp_path / "data/imagesTr"
    for copy in (held_out, second):
        shutil.copy(images / f"{first}.nii.gz", images / f"{copy}.nii.gz")
    codes = {code for case, code in told(look(data, tmp_path)) if case != first}
    assert codes == {"duplicate-image", "duplicate-across-splits"}


def test_an_image_far_brighter_than_all_others_is_told(tmp_path, make_msd, write_scan):
    data = make_msd(tmp_path / "data", cases=12)
    bright = np.random.default_rng(0).normal(1000, 20, (9, 11, 7)).astype(np.float32)
    write_scan(tmp_path / "data/imagesTr/liver_5.nii.gz", bright)
    finding = only(look(data, tmp_path))
    assert (finding.case, finding.code) == ("liver_5", "intensity-outlier")
    assert "its mean in channel 1 is " in finding.reason


def test_voxel_types_that_differ_are_a_note_and_no_warning(tmp_path, make_msd, write_scan):
    data = make_msd(tmp_path / "data")
    dim = np.random.default_rng(0).integers(50, 150, (9, 11, 7), np.int16)
    write_scan(tmp_path / "data/imagesTr/liver_2.nii.gz", dim)
    found = look(data, tmp_path)
    assert (only(found).code, only(found).level) == ("dtype-varies", "note")
    assert "float32 in 3 cases, int16 in 1 (liver_2)" in only(found).reason
    assert found.to_json()["cases"][2]["status"] == "ok"


# Places


@pytest.mark.parametrize(
    ("crs", "step", "code", "words"),
    [
        ("EPSG:32634", 10, "crs-differs", "zone 33N in 3 cases, WGS 84 / UTM zone 34N in 1"),
        (None, 10, "crs-differs", "none in 1 (tile_1)"),
        ("EPSG:32633", 20, "resolution-differs", "10 × 10 m: tile_1, the first with 20 × 20 m"),
    ],
)
def test_scenes_that_lie_otherwise_than_most_are_told(
    tmp_path, make_pairs, write_scene, crs, step, code, words
):
    data = make_pairs(tmp_path / "data")
    bands = np.random.default_rng(0).integers(1, 255, (3, 20, 24), np.uint8)
    transform = rasterio.Affine(step, 0, 0, 0, -step, 0)
    write_scene(tmp_path / "data/images/tile_1.tif", bands, crs, transform)
    [finding] = [f for f in look(data, tmp_path).findings if f.code == code]
    assert words in finding.reason


def rewrite(root, write_scan, case, affine):
    """Give a case another affine."""
    random = np.random.default_rng(case)
    image = random.normal(100, 20, (9, 11, 7)).astype(np.float32)
    write_scan(root / f"imagesTr/liver_{case}.nii.gz", image, affine)
    mask = random.integers(0, 3, (9, 11, 7), np.uint8)
    write_scan(root / f"labelsTr/liver_{case}.nii.gz", mask, affine)


def test_scans_turned_otherwise_than_most_are_told(tmp_path, make_msd, write_scan):
    data = make_msd(tmp_path / "data", cases=3)
    for case, affine in enumerate((np.eye(4), np.eye(4), np.diag([-1, -1, 1, 1]))):
        rewrite(tmp_path / "data", write_scan, case, affine)
    finding = only(look(data, tmp_path))
    assert finding.code == "orientation-differs"
    assert "RAS in 2 cases, LPS in 1 (liver_2)" in finding.reason


def test_spacing_from_fine_to_coarse_is_a_note(tmp_path, make_msd, write_scan):
    data = make_msd(tmp_path / "data", cases=3)
    for case, slices in enumerate((1.0, 2.0, 5.0)):
        rewrite(tmp_path / "data", write_scan, case, np.diag([1, 1, slices, 1]))
    finding = only(look(data, tmp_path))
    assert (finding.code, finding.level) == ("spacing-varies", "note")
    assert "from 1 × 1 × 1 mm to 5 × 1 × 1 mm (z, y, x)" in finding.reason


# Classes


def test_a_class_that_no_mask_holds_is_told(tmp_path, make_msd):
    data = make_msd(tmp_path / "data")
    lesion = ClassSettings(name="lesion", values=(3,))
    data = data.model_copy(update={"classes": (*data.classes, lesion)})
    relist(tmp_path / "data", labels={"0": "a", "1": "b", "2": "c", "3": "lesion"})
    finding = only(look(data, tmp_path))
    assert (finding.code, finding.reason) == (
        "absent-class",
        "no mask of 4 holds the class lesion.",
    )


def test_a_class_that_only_held_out_cases_hold_would_never_be_learnt(
    tmp_path, make_msd, write_scan
):
    data = make_msd(tmp_path / "data")
    for row in look(data, tmp_path).to_json()["cases"]:
        if row["split"] == "train":
            mask = np.random.default_rng(0).integers(0, 2, (9, 11, 7), np.uint8)
            write_scan(tmp_path / f"data/labelsTr/{row['case']}.nii.gz", mask)
    finding = only(look(data, tmp_path))
    assert finding.code == "untrained-class" and "the class tumour" in finding.reason


@pytest.mark.parametrize(
    ("values", "gap"), [((0, 1, 2), False), ((0, 1, 3), True), ((0, 255), False), ((1, 2), False)]
)
def test_a_missing_value_among_few_is_told_and_other_ways_of_writing_are_not(
    tmp_path, make_pairs, write_picture, values, gap
):
    classes = tuple(ClassSettings(name=f"c{v}", values=(v,)) for v in values)
    data = make_pairs(tmp_path / "data", classes=classes)
    for case in range(4):
        mask = np.resize(np.array(values, np.uint8), (20, 24))
        write_picture(tmp_path / f"data/masks/tile_{case}.png", mask)
    assert told(look(data, tmp_path)) == ({(None, "value-gap")} if gap else set())


# The listing, and names


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"numTraining": 5}, "count-mismatch", "says numTraining 5, its list training has 4"),
        ({"numTest": 1}, "count-mismatch", "says numTest 1, its list test has 0"),
        ({"labels": {"0": "a", "1": "b"}}, "labels-differ", "run.yaml names the mask value 2"),
        ({"labels": {"a": 0, "b": 1, "c": 2, "d": 3}}, "labels-differ", "names the mask value 3"),
        ({"modality": {"0": "T1", "1": "T2"}}, "channel-names", "names 2 channels, the images"),
    ],
)
def test_a_listing_that_does_not_agree_is_told(tmp_path, make_msd, changes, code, words):
    data = make_msd(tmp_path / "data")
    relist(tmp_path / "data", **changes)
    finding = only(look(data, tmp_path))
    assert (finding.code, finding.level) == (code, "warning")
    assert words in finding.reason


def test_keys_that_the_listing_lacks_are_told(tmp_path, make_msd):
    data = make_msd(tmp_path / "data")
    path = tmp_path / "data/dataset.json"
    path.write_text(json.dumps({"training": json.loads(path.read_text())["training"]}))
    assert told(look(data, tmp_path)) == {(None, "missing-key")}


def test_files_that_are_not_listed_are_told(tmp_path, make_msd, write_scan):
    data = make_msd(tmp_path / "data")
    write_scan(tmp_path / "data/imagesTr/liver_9.nii.gz", np.ones((2, 2, 2), np.float32))
    finding = only(look(data, tmp_path))
    assert finding.code == "unlisted-files"
    assert (
        "files in imagesTr/ that dataset.json does not list: 1 (liver_9.nii.gz)" in finding.reason
    )


def test_cases_of_the_last_ingest_that_are_gone_are_told(tmp_path, make_pairs, take_in):
    data = make_pairs(tmp_path / "data")
    take_in(data, tmp_path)
    for path in (tmp_path / "data").glob("*/tile_2.*"):
        path.unlink()
    assert told(look(data, tmp_path)) == {(None, "vanished-cases")}


@pytest.mark.parametrize(
    ("names", "groups", "pattern"),
    [
        ([f"patient{p:02}_scan{s}" for p in range(5) for s in range(2)], 5, "^(.+)_"),
        ([f"Amazon_{p}.tiff_{s}" for p in range(4) for s in (1, 7)], 4, "^(.+)_"),
        ([f"BraTS-GLI-{p:05}-{s:03}" for p in range(6) for s in range(1 + p % 2)], 6, "^(.+)-"),
        (["control", *(f"p{p}_s{s}" for p in range(5) for s in range(2))], 6, listing.STEM),
        ([f"{n:02}" for n in range(30)], 0, ""),
        ([f"hippocampus_{n:03}" for n in range(30)], 0, ""),
        ([f"site{s}_{n:03}" for s in "AB" for n in range(9)], 0, ""),
        ([f"T{s}_{n:03}" for s in (1, 2) for n in range(9)], 0, ""),
        ([f"Amazon_{n}.tiff_{n % 7}" for n in range(30)], 0, ""),
        ([f"patient{n:02}" for n in range(30)], 0, ""),
    ],
)
def test_names_that_tell_of_groups_are_told_and_plain_numbering_is_not(
    tmp_path, names, groups, pattern
):
    cases = [CaseFiles(name, one_file(tmp_path / name), None) for name in names]
    data = DataSettings(
        root=".",
        layout="pairs",
        classes=({"name": "a", "values": (0,)}, {"name": "b", "values": (1,)}),
    )
    found = list(listing.group_hint(data, cases))
    assert [f.code for f in found] == (["likely-groups"] if groups else [])
    if groups:
        assert f"set data.group to '{pattern}'" in found[0].remedy
        told = data.model_copy(update={"group": pattern})
        assert len({told.group_of(name) for name in names}) == groups
        assert not list(listing.group_hint(told, cases))


# Real data


def test_of_real_hippocampus_nothing_is_refused_or_warned_of(tmp_path, real_data):
    data = DataSettings(
        root=str(real_data("hippocampus")),
        layout="msd",
        classes=(
            {"name": "background", "values": (0,), "background": True},
            {"name": "anterior", "values": (1,)},
            {"name": "posterior", "values": (2,)},
        ),
    )
    counts = look(data, tmp_path).to_json()["counts"]
    assert (counts["refused"], counts["warning"]) == (0, 0)


def test_of_real_amazon_scenes_the_one_with_a_small_mask_is_refused(tmp_path, real_data):
    data = DataSettings(
        root=str(real_data("amazon_forest")),
        layout="pairs",
        classes=({"name": "clear", "values": (1,)}, {"name": "forest", "values": (2,)}),
    )
    refused = [f for f in look(data, tmp_path).findings if f.level == "refused"]
    assert [f.code for f in refused] == ["unfit-mask"]
