"""Init finds images and masks in every layout of the field, and says what it took for what."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest
import scipy.io
import zarr

from pipeline.errors import SettingsError
from pipeline.init import init
from pipeline.io.discover import discover
from pipeline.io.location import locate
from pipeline.run import load_settings
from tests.dicom_builder import PERSONAL, ct, save, save_all, slices, write_series

LABELS = np.resize(np.array([0, 1], np.uint8), (24, 25))


@pytest.fixture
def recognised(tmp_path):
    """Give a function that inits a folder and gives its data settings, summary and file."""

    def look(root):
        found = init(root, tmp_path / "run.yaml")
        assert load_settings(tmp_path / "run.yaml") == found.settings
        text = (tmp_path / "run.yaml").read_text()
        # As it reads: comments without their line breaks.
        return found.settings.data, found.summary, re.sub(r"\n *# ", " ", text)

    return look


@pytest.fixture
def lay_out(tmp_path, write_picture, write_scan):
    """Give a function that writes images and masks: those with a mark hold labels, others noise."""
    random = np.random.default_rng(0)

    def write(*names, marks=("mask", "label", "seg", "gt"), suffix=""):
        root = tmp_path / "data"
        for name in (f"{name}{suffix}" for name in names):
            labels = any(mark in name.lower() for mark in marks)
            pixels = LABELS if labels else random.integers(0, 256, (24, 25), dtype=np.uint8)
            if name.endswith(".nii.gz"):
                write_scan(root / name, np.stack([pixels, pixels], axis=-1))
            else:
                write_picture(root / name, pixels)
        return root

    return write


def usable(data):
    return sum(files.mask is not None and files.problem is None for files in discover(data))


# nnU-Net


def listing(root, **content):
    (root / "dataset.json").write_text(json.dumps(content))


V2 = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "tumour": 1, "ignore": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def nnunet(lay_out, channels=2):
    names = [f"imagesTr/p_{c}_000{n}.nii.gz" for c in "12" for n in range(channels)]
    return lay_out(*names, "labelsTr/p_1.nii.gz", "labelsTr/p_2.nii.gz")


def test_nnunet_raw_data_have_a_file_per_channel_and_keep_their_ignore_label(lay_out, recognised):
    root = nnunet(lay_out)
    lay_out("imagesTs/p_9_0000.nii.gz", "imagesTs/p_9_0001.nii.gz")
    listing(root, **V2)
    data, summary, text = recognised(root)
    assert data.images == ("imagesTr/{case}_0000.nii.gz", "imagesTr/{case}_0001.nii.gz")
    assert data.masks == "labelsTr/{case}.nii.gz" and data.ignore_values == (2,)
    assert [files.case for files in discover(data)] == ["p_1", "p_2"] and usable(data) == 2
    assert summary[0] == "nnU-Net raw dataset data, channels T1, FLAIR: 2 labelled cases"
    assert f"--input {root}/imagesTs" in summary[-1]
    assert "Channels in this order: T1, FLAIR." in text


def test_nnunets_first_version_lists_cases_and_no_file_that_is_there(lay_out, recognised):
    root = nnunet(lay_out, channels=1)
    names = ("p_1.nii.gz", "p_2.nii.gz")
    files = [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names]
    labels = {"0": "background", "1": "tumour"}
    listing(root, modality={"0": "CT"}, labels=labels, training=files)
    data, _, _ = recognised(root)
    assert data.layout == "pairs" and data.images == "imagesTr/{case}_0000.nii.gz"
    assert data.modality == "ct" and usable(data) == 2


def test_nnunets_names_tell_its_layout_without_a_listing(lay_out, recognised):
    data, summary, _ = recognised(nnunet(lay_out))
    assert data.images == ("imagesTr/{case}_0000.nii.gz", "imagesTr/{case}_0001.nii.gz")
    assert usable(data) == 2 and "2 pairs by name" in summary[0]


def test_colours_in_one_file_are_one_file_whatever_the_channels_are_called(lay_out, recognised):
    root = lay_out("imagesTr/a_0000.png", "imagesTr/b_0000.png", "labelsTr/a.png", "labelsTr/b.png")
    names = {"0": "R", "1": "G", "2": "B"}
    listing(root, **{**V2, "channel_names": names, "file_ending": ".png"})
    data, _, _ = recognised(root)
    assert data.images == "imagesTr/{case}_0000.png" and usable(data) == 2


def test_a_listing_of_another_kind_is_no_concern(lay_out, recognised):
    root = lay_out("images/a.png", "images/b.png", "masks/a.png", "masks/b.png")
    listing(root, licence="CC0")
    assert usable(recognised(root)[0]) == 2


def test_a_case_of_nnunet_that_lacks_a_channel_is_counted(lay_out, recognised):
    root = nnunet(lay_out)
    listing(root, **V2)
    (root / "imagesTr" / "p_2_0001.nii.gz").unlink()
    data, summary, _ = recognised(root)
    assert usable(data) == 1
    assert "1 cases lack a file and will be quarantined: segflow check says why" in summary


def test_nnunets_regions_are_refused(lay_out, recognised):
    root = nnunet(lay_out)
    listing(root, **{**V2, "labels": {"background": 0, "whole": [1, 2]}})
    with pytest.raises(SettingsError, match="regions of several values are not supported"):
        recognised(root)


def test_nnunets_images_without_labels_can_be_predicted(lay_out, recognised):
    root = nnunet(lay_out)
    shutil.rmtree(root / "labelsTr")
    listing(root, **V2)
    data, summary, _ = recognised(root)
    assert data.masks is None and [c.name for c in data.classes] == ["background", "tumour"]
    assert len(discover(data)) == 2 and summary[1].startswith("NO MASKS")


def test_a_decathlon_listing_of_test_images_alone_can_be_predicted(tmp_path, make_msd, recognised):
    make_msd(tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    content = json.loads(path.read_text())
    images = [entry["image"] for entry in content["training"]]
    path.write_text(json.dumps({**content, "training": [], "test": images}))
    data, summary, text = recognised(tmp_path / "data")
    assert len(discover(data)) == 4 and usable(data) == 0
    assert summary[2].startswith("NO MASKS") and " NO MASKS" in text


# One mask per object


def nuclei(write_picture, root, cases=("a1", "b2"), image="{case}.png", folder="masks"):
    for case in cases:
        pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 4), dtype=np.uint8)
        write_picture(root / case / "images" / image.format(case=case), pixels)
        for number in range(3):
            mask = np.zeros((9, 9), np.uint8)
            mask[number] = 255
            write_picture(root / case / folder / f"{case}{number}f3.png", mask)
    return root


def test_one_mask_per_object_is_kept_as_objects(tmp_path, write_picture, recognised):
    data, summary, text = recognised(nuclei(write_picture, tmp_path / "stage1_train"))
    assert (data.images, data.masks) == ("{case}/images/{case}.png", "{case}/masks/*.png")
    assert [(c.name, c.values) for c in data.classes] == [("background", (0,)), ("object", (1,))]
    assert usable(data) == 2 and summary[0].endswith(": 2 images, 6 objects")
    assert "rename it (nucleus, cell)" in text


def test_the_folder_above_is_recognised_too_and_images_without_masks_are_no_cases(
    tmp_path, write_picture, recognised
):
    nuclei(write_picture, tmp_path / "dsb" / "stage1_train")
    nuclei(write_picture, tmp_path / "dsb" / "stage1_test", cases=("c3",), folder="none")
    data, _, _ = recognised(tmp_path / "dsb")
    assert data.images == "stage1_train/{case}/images/{case}.png" and usable(data) == 2


def test_images_of_any_name_belong_to_the_folder_of_their_case(tmp_path, write_picture, recognised):
    root = tmp_path / "data"
    for case in ("a1", "b2"):
        nuclei(write_picture, root, cases=(case,), image=f"shot {case[1]} of today.png")
    data, _, _ = recognised(root)
    assert data.images == "{case}/images/*.png" and usable(data) == 2


def test_masks_of_objects_may_lie_in_a_folder_named_by_case(tmp_path, write_picture, recognised):
    for case in ("a1", "b2"):
        write_picture(tmp_path / "data" / "images" / f"{case}.png", np.zeros((9, 9), np.uint8))
        for number in range(2):
            mask = np.full((9, 9), 255, np.uint8)
            write_picture(tmp_path / "data" / "masks" / case / f"{number}.png", mask)
    data, _, _ = recognised(tmp_path / "data")
    assert (data.images, data.masks) == ("images", "masks/{case}/*.png")
    assert usable(data) == 2


def test_masks_named_alike_in_every_case_raise_a_doubt(tmp_path, write_picture, recognised):
    for case in ("a1", "b2"):
        nuclei(write_picture, tmp_path / "data", cases=(case,))
        write_picture(tmp_path / "data" / case / "masks" / "liver.png", np.eye(9, dtype=np.uint8))
    _, summary, _ = recognised(tmp_path / "data")
    assert "every case has a mask named liver: if names are of classes" in summary[-1]


# DICOM


def test_series_without_masks_become_settings_that_say_so(tmp_path, recognised):
    voxels = np.random.default_rng(0).integers(0, 1000, (4, 9, 8)).astype(np.int16)
    write_series(tmp_path / "data" / "deep" / "er" / "DOE_JANE" / "s1", voxels)
    data, summary, text = recognised(tmp_path / "data")
    assert (data.layout, data.masks, data.modality) == ("dicom", None, "other")
    assert len(discover(data)) == 1 and usable(data) == 0
    assert summary[0] == "DICOM: 1 series (mr) in 4 files"
    assert summary[1].startswith("NO MASKS: only `segflow ingest`, `segflow check` and")
    assert " NO MASKS" in text and "put them into a folder masks/" in text
    assert not [word for word in PERSONAL if word in text.lower()]


def test_series_of_computed_tomography_are_of_that_modality(tmp_path, recognised):
    save_all(tmp_path / "data", ct(np.full((4, 9, 8), 1000, np.uint16)))
    assert recognised(tmp_path / "data")[0].modality == "ct"


def series(folder, number):
    voxels = np.random.default_rng(0).integers(0, 1000, (4, 9, 8)).astype(np.int16)
    write_series(folder, voxels, SeriesInstanceUID=f"1.2.3.{number}", SeriesNumber=number)


def test_masks_named_by_the_series_folder_are_found(tmp_path, write_scan, recognised):
    for number in (1, 2):
        series(tmp_path / "data" / f"knee{number}", number)
        mask = np.resize(np.array([0, 1, 2], np.uint8), (8, 9, 4))
        write_scan(tmp_path / "data" / "masks" / f"knee{number}.nii.gz", mask)
    data, summary, _ = recognised(tmp_path / "data")
    assert (data.layout, data.dicom_case) == ("dicom", "folder")
    assert data.masks == "masks/{case}.nii.gz"
    assert usable(data) == 2 and len(data.classes) == 3
    assert "DICOM series named by folder" in summary[0]


def test_masks_named_by_case_id_are_found_and_series_without_are_counted(
    tmp_path, write_scan, recognised
):
    for number in (1, 2):
        series(tmp_path / "data" / f"knee{number}", number)
    case = discover(recognised(tmp_path / "data")[0])[0].case
    mask = np.resize(np.array([0, 1], np.uint8), (8, 9, 4))
    write_scan(tmp_path / "data" / "masks" / f"{case}.nii.gz", mask)
    data, summary, _ = recognised(tmp_path / "data")
    assert data.dicom_case == "series" and usable(data) == 1
    assert any("1 series have no mask and will be quarantined" in line for line in summary)


def test_slices_of_the_same_name_are_no_pairs_and_a_damaged_series_is_counted(tmp_path, recognised):
    for number in (1, 2):
        series(tmp_path / "data" / f"knee{number}", number)
    series(tmp_path / "data" / "knee3", 3)
    for file in (tmp_path / "data" / "knee3").iterdir():
        file.write_bytes(file.read_bytes()[:200])
    data, summary, _ = recognised(tmp_path / "data")
    assert summary[0] == "DICOM: 2 series (mr) in 8 files"
    assert summary[-1] == "1 series make no volume: segflow check says why"
    assert len(discover(data)) == 3


def test_single_dicom_files_with_masks_of_their_names_are_pairs(
    tmp_path, write_picture, recognised
):
    for number in (1, 2):
        pixels = np.random.default_rng(0).integers(0, 1000, (1, 24, 25)).astype(np.int16)
        uid = {"SeriesInstanceUID": f"1.2.3.{number}"}
        [made] = slices(pixels, **uid)
        save(tmp_path / "data" / "images" / f"chest{number}.dcm", made)
        write_picture(tmp_path / "data" / "masks" / f"chest{number}.png", LABELS)
    data, _, text = recognised(tmp_path / "data")
    assert (data.layout, data.images, data.masks) == ("pairs", "images", "masks")
    assert usable(data) == 2 and "see that these name no patient" in text


# Files of one case side by side


@pytest.mark.parametrize(
    ("names", "images", "masks"),
    [
        (
            ["{}_S1Hand.png", "{}_S2Hand.png", "{}_LabelHand.png"],
            ("{case}_S1Hand.png", "{case}_S2Hand.png"),
            "{case}_LabelHand.png",
        ),
        (
            ["S1/{}_S1.png", "S2/{}_S2.png", "Label/{}_Label.png"],
            ("S1/{case}_S1.png", "S2/{case}_S2.png"),
            "Label/{case}_Label.png",
        ),
        (
            ["{0}/{0}_t1.nii.gz", "{0}/{0}_t1ce.nii.gz", "{0}/{0}_seg.nii.gz"],
            ("{case}/{case}_t1.nii.gz", "{case}/{case}_t1ce.nii.gz"),
            "{case}/{case}_seg.nii.gz",
        ),
        (
            ["{}/imaging.nii.gz", "{}/segmentation.nii.gz"],
            "{case}/imaging.nii.gz",
            "{case}/segmentation.nii.gz",
        ),
        (
            ["volume-{}.nii.gz", "segmentation-{}.nii.gz"],
            "volume-{case}.nii.gz",
            "segmentation-{case}.nii.gz",
        ),
        (["rgb/{}.png", "nir/{}.png", "gt/{}.png"], ("nir/{case}.png", "rgb/{case}.png"), "gt"),
        (["images/{}.png", "masks/{}_mask.png"], "images", "masks/{case}_mask.png"),
        (
            ["images/img_{}.png", "masks/mask_{}.png"],
            "images/img_{case}.png",
            "masks/mask_{case}.png",
        ),
        (["{}.bmp", "{}_mask.png"], "{case}.bmp", "{case}_mask.png"),
        (["{}.bmp", "{}_image.png", "{}_mask.png"], "{case}_image.png", "{case}_mask.png"),
        (["images/train/{}.png", "labels/train/{}.png"], "images/train", "labels/train"),
        (
            ["scenes/{}/B8A.png", "scenes/{}/B10.png", "scenes/{}/B02.png", "masks/{}.png"],
            ("scenes/{case}/B02.png", "scenes/{case}/B8A.png", "scenes/{case}/B10.png"),
            "masks",
        ),
        (
            ["{}/images/x.png", "{}/masks/x.png"],
            "{case}/images/x.png",
            "{case}/masks/x.png",
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, list) else "",
)
def test_files_of_a_case_are_told_by_the_words_of_their_names(
    lay_out, recognised, names, images, masks
):
    root = lay_out(*(name.format(case) for name in names for case in ("Spain_73", "Peru_5")))
    data, summary, _ = recognised(root)
    assert (data.images, data.masks) == (images, masks)
    assert usable(data) == len(discover(data)) == 2
    assert summary[0].endswith(": 2 pairs by name")
    assert [c.name for c in data.classes] == ["background", "foreground"]


def test_channels_of_several_types_and_values_below_zero_are_spoken_of(
    tmp_path, write_scene, recognised
):
    root = tmp_path / "data"
    radar = np.random.default_rng(0).normal(-20, 3, (2, 20, 24)).astype(np.float32)
    light = np.random.default_rng(0).integers(0, 4000, (13, 20, 24)).astype(np.int16)
    label = np.resize(np.array([-1, 0, 1], np.int16), (1, 20, 24))
    for place in ("Spain_7370579", "Ghana_103272"):
        write_scene(root / f"{place}_S1Hand.tif", radar, nodata=np.nan)
        write_scene(root / f"{place}_S2Hand.tif", light, nodata=0)
        write_scene(root / f"{place}_LabelHand.tif", label)
    data, summary, text = recognised(root)
    assert data.images == ("{case}_S1Hand.tif", "{case}_S2Hand.tif")
    assert data.masks == "{case}_LabelHand.tif" and data.ignore_values == (-1,)
    assert "their channels are float32 and int16: together they become float32" in summary
    assert "take out a name to leave a file out" in text


def test_files_that_hold_labels_or_lie_on_another_grid_are_no_channels(
    tmp_path, write_scene, recognised
):
    root = tmp_path / "data"
    random = np.random.default_rng(0)
    for case in ("a", "b"):
        for name, shape in (("B02", (20, 24)), ("B03", (20, 24)), ("B05", (10, 12))):
            bands = random.integers(0, 4000, (1, *shape)).astype(np.uint16)
            write_scene(root / f"{case}_{name}.tif", bands)
        for name in ("JRCWater", "label"):
            write_scene(root / f"{case}_{name}.tif", np.resize(LABELS, (1, 20, 24)))
    data, summary, _ = recognised(root)
    assert data.images == ("{case}_B02.tif", "{case}_B03.tif")
    assert "{case}_JRCWater.tif (looks like masks)" in summary[-1]
    assert "{case}_B05.tif (on another grid)" in summary[-1]


def test_other_masks_are_left_out_by_name(lay_out, recognised):
    names = ["images/{}.png", "masks/{}.png", "other_labels/{}.png"]
    root = lay_out(*(name.format(case) for name in names for case in "ab"))
    data, summary, _ = recognised(root)
    assert (data.images, data.masks) == ("images", "masks")
    assert summary[-1] == "not used: other_labels/{case}.png (masks too)"


def test_masks_beside_their_images_are_no_images(lay_out, recognised):
    root = lay_out("p1.png", "p1_mask.png", "p2.png", "p2_mask.png")
    data, _, _ = recognised(root)
    assert (data.images, data.masks) == ("{case}.png", "{case}_mask.png")
    assert [case.case for case in discover(data)] == ["p1", "p2"]


def test_the_part_of_the_tree_that_holds_most_pairs_is_taken(lay_out, recognised):
    root = lay_out(
        *(f"train/{kind}/{n}.png" for kind in ("images", "masks") for n in range(4)),
        *(f"val/{kind}/{n}.png" for kind in ("images", "masks") for n in range(2)),
    )
    data, summary, _ = recognised(root)
    assert (data.images, data.masks) == ("train/images", "train/masks")
    assert "val/masks/{case}.png" in summary[-1]


def test_masks_of_another_shape_are_warped_where_both_say_their_place(
    tmp_path, write_scene, recognised
):
    for case in "ab":
        bands = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.uint8)
        write_scene(tmp_path / "data" / "images" / f"{case}.tif", bands)
        write_scene(tmp_path / "data" / "masks" / f"{case}.tif", np.resize(LABELS, (1, 40, 48)))
    data, summary, text = recognised(tmp_path / "data")
    assert data.mask_grid == "nearest" and "warped onto it by nearest neighbour" in summary[-1]
    assert "Masks lie on another grid than their images" in text


def test_case_ids_that_share_beginnings_bring_a_hint_of_groups(lay_out, recognised):
    names = [f"{kind}/p{p}_{n}.png" for kind in ("images", "masks") for p in "12" for n in "34"]
    data, _, text = recognised(lay_out(*names))
    assert data.group is None
    assert "4 cases share 2 beginnings, such as p1" in text
    assert "set group: '^(.+)_'" in text


# Polygons


def polygons(path, *values, field="class"):
    path.parent.mkdir(parents=True, exist_ok=True)
    square = [[[0, 0], [0, 9], [9, 9], [9, 0], [0, 0]]]
    features = [
        {
            "type": "Feature",
            "properties": {field: value, "who": "me"},
            "geometry": {"type": "Polygon", "coordinates": square},
        }
        for value in values
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@pytest.mark.parametrize(
    ("field", "values", "attribute", "expected"),
    [
        ("class", (1, 2, 2), "class", [0, 1, 2]),
        ("Label", (3, 3), "Label", [0, 3]),
        ("id", (1, 2, 3, 4), None, [0, 1]),
        ("kind", ("a", "b"), None, [0, 1]),
    ],
)
def test_polygons_are_masks_whose_field_of_whole_numbers_is_the_class(
    tmp_path, write_scene, recognised, field, values, attribute, expected
):
    for case in "ab":
        bands = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.uint8)
        write_scene(tmp_path / "data" / "tiles" / f"rgb_{case}.tif", bands)
        polygons(tmp_path / "data" / "houses" / f"houses_{case}.geojson", *values, field=field)
    data, _, _ = recognised(tmp_path / "data")
    assert data.masks == "houses/houses_{case}.geojson" and usable(data) == 2
    assert data.images == "tiles/rgb_{case}.tif" and data.mask_attribute == attribute
    assert [c.values[0] for c in data.classes] == expected


def test_polygons_named_like_their_images_may_lie_beside_them(tmp_path, write_scene, recognised):
    for case in "ab":
        bands = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.uint8)
        write_scene(tmp_path / "data" / f"{case}.tif", bands)
        polygons(tmp_path / "data" / f"{case}.geojson", 1)
    data, _, _ = recognised(tmp_path / "data")
    assert (data.images, data.masks) == ("{case}.tif", "{case}.geojson") and usable(data) == 2


# Files that hold image and mask


def scan():
    return np.random.default_rng(0).integers(0, 255, (20, 24, 6)).astype(np.float64)


def layers():
    labels = np.full((20, 24, 6), np.nan)
    labels[..., :3] = np.resize([0.0, 1, 2], (20, 24, 3))
    return labels


def test_matlab_files_hold_image_and_mask_by_name(tmp_path, recognised):
    (tmp_path / "data").mkdir()
    for case in "12":
        arrays = {
            "images": scan(),
            "manualLayers1": np.ones((8, 24, 6)),
            "manualFluid1": layers(),
            "manualFluid2": layers(),
            "note": 3,
        }
        scipy.io.savemat(tmp_path / "data" / f"Subject_{case}.mat", arrays, do_compression=True)
    data, summary, text = recognised(tmp_path / "data")
    assert (data.images, data.masks) == ("{case}.mat::images", "{case}.mat::manualFluid1")
    assert [c.values for c in data.classes] == [(0,), (1,), (2,)] and usable(data) == 2
    assert "not used: manualFluid2 (masks too)" in summary
    assert "NaN, met in 2 masks, is never a class" in text


def test_hdf5_files_hold_image_and_mask_below_groups(tmp_path, recognised):
    for case in "12":
        path = tmp_path / "data" / case / "block.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["volumes/raw"] = scan().astype(np.uint8)
            file["volumes/labels/cells"] = np.nan_to_num(layers()).astype(np.uint64)
    data, _, _ = recognised(tmp_path / "data")
    assert data.images == "{case}/block.h5::volumes/raw"
    assert data.masks == "{case}/block.h5::volumes/labels/cells" and usable(data) == 2


def test_arrays_whose_names_say_nothing_are_told_by_their_values(tmp_path, recognised):
    (tmp_path / "data").mkdir()
    for case in "12":
        arrays = {"arr_0": np.nan_to_num(layers()).astype(np.uint8), "arr_1": scan()}
        np.savez(tmp_path / "data" / f"{case}.npz", **arrays)
    data, _, _ = recognised(tmp_path / "data")
    assert (data.images, data.masks) == ("{case}.npz::arr_1", "{case}.npz::arr_0")


def test_arrays_in_two_folders_of_containers_are_named_by_what_they_are(tmp_path, recognised):
    for case in "12":
        for folder in ("images", "labels"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            with h5py.File(tmp_path / "data" / folder / f"{case}.h5", "w") as file:
                file["raw"] = scan().astype(np.uint8)
                file["label"] = np.nan_to_num(layers()).astype(np.uint8)
    data, _, _ = recognised(tmp_path / "data")
    assert data.images == "images/{case}.h5::raw" and data.masks == "labels/{case}.h5::label"


def ome(path, voxels, **attributes):
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [2.0, 1.0, 1.0]}]
    level = {"path": "0", "coordinateTransformations": scale}
    group = zarr.open_group(path, mode="a", zarr_format=3)
    group.create_array("0", data=voxels)
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [level]}],
        **attributes,
    }


def test_ome_zarr_images_hold_their_masks_as_labels(tmp_path, recognised):
    for case in "12":
        path = tmp_path / "data" / f"{case}.zarr"
        path.parent.mkdir(exist_ok=True)
        ome(path, scan().astype(np.uint8))
        zarr.open_group(path, mode="a").create_group("labels").attrs["ome"] = {"labels": ["cells"]}
        ome(path / "labels" / "cells", np.nan_to_num(layers()).astype(np.uint8))
    data, _, _ = recognised(tmp_path / "data")
    assert (data.images, data.masks) == ("{case}.zarr", "{case}.zarr::labels/cells")
    assert usable(data) == 2


def test_one_container_alone_is_no_dataset(tmp_path, recognised):
    ome(tmp_path / "a.zarr", scan().astype(np.uint8))
    with pytest.raises(SettingsError, match="a.zarr is one image: give the folder that holds it"):
        recognised(tmp_path / "a.zarr")


# Images without masks


@pytest.mark.parametrize(
    ("names", "images", "cases"),
    [
        (["images/0.png", "images/1.png"], "images", 2),
        (["a.png", "b.bmp"], ".", 2),
        (["a_B02.png", "a_B8A.png", "b_B02.png", "b_B8A.png"],
         ("{case}_B02.png", "{case}_B8A.png"), 2),
        (["a/B02.png", "a/B03.png", "b/B02.png", "b/B03.png"],
         ("{case}/B02.png", "{case}/B03.png"), 2),
        (["a/scan.nii.gz", "b/scan.nii.gz"], "{case}/scan.nii.gz", 2),
        (["frame_0001.png", "frame_0002.png"], ".", 2),
    ],
)  # fmt: skip
def test_images_without_masks_become_settings_that_say_so(
    lay_out, recognised, names, images, cases
):
    data, summary, text = recognised(lay_out(*names, marks=()))
    assert data.images == images and data.masks is None
    assert len(discover(data)) == cases
    assert summary[1].startswith("NO MASKS") and " NO MASKS" in text


@pytest.mark.parametrize(
    ("names", "marks"),
    [
        (["first/0.png", "first/1.png"], ("first",)),
        (["labels/0.png"], ("label",)),
        (["a/0.png", "b/1.png"], ()),
    ],
)
def test_masks_alone_or_images_in_folders_that_say_nothing_are_no_dataset(
    lay_out, recognised, names, marks
):
    with pytest.raises(SettingsError, match="which is no known dataset: supported are a folder"):
        recognised(lay_out(*names, marks=marks))


def test_containers_without_a_mask_name_the_image_in_them(tmp_path, recognised):
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "a.npz", image=scan(), depth=scan()[:5])
    data, _, _ = recognised(tmp_path / "data")
    assert data.images == "{case}.npz::image" and data.masks is None


# URLs


def test_a_dataset_at_a_url_is_recognised_where_it_lies(lay_out, recognised):
    root = lay_out("images/p_1.png", "images/p_2.png", "masks/p_1.png", "masks/p_2.png")
    for file in root.rglob("*.png"):
        there = locate(f"memory://init/{file.relative_to(root).as_posix()}")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(file.read_bytes())
    data, summary, _ = recognised("memory://init")
    assert (data.images, data.masks) == ("images", "masks") and usable(data) == 2
    assert locate(data.root).is_dir() and summary[1].startswith("classes: background (0)")


def test_a_listing_at_a_url_is_read_and_its_files_are_looked_for(tmp_path, make_msd, recognised):
    make_msd(tmp_path / "data")
    (tmp_path / "data" / "labelsTr" / "liver_1.nii.gz").unlink()
    for file in (p for p in (tmp_path / "data").rglob("*") if p.is_file()):
        there = locate(f"memory://msd/{file.relative_to(tmp_path / 'data').as_posix()}")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(file.read_bytes())
    data, summary, _ = recognised("memory://msd")
    assert data.layout == "msd" and len(discover(data)) == 4
    assert summary[-1] == "1 of the files it lists are missing: segflow check names them"


def test_dicom_at_a_url_is_to_be_copied(recognised):
    there = locate("memory://scans/a/1.dcm")
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(b"")
    with pytest.raises(SettingsError, match="holds DICOM, whose series are read from local"):
        recognised("memory://scans")


# The real data


@pytest.mark.parametrize(
    ("name", "layout", "cases", "labelled", "classes"),
    [
        ("hippocampus", "msd", 200, 200, ["background", "Anterior", "Posterior"]),
        ("amazon_forest", "pairs", 30, 30, ["class_1", "class_2"]),
        ("isbi2012", "pairs", 20, 20, ["background", "foreground"]),
        ("dsb2018", "pairs", 120, 120, ["background", "object"]),
        ("dsb2018/stage1_train", "pairs", 120, 120, ["background", "object"]),
        ("dicom", "dicom", 2, 0, ["background", "foreground"]),
        ("dicom/t1post", "dicom", 1, 0, ["background", "foreground"]),
        ("dicom/hcrop", "dicom", 1, 0, ["background", "foreground"]),
        ("sen1floods11", "pairs", 1, 1, ["background", "foreground"]),
    ],
)
def test_every_real_folder_is_recognised_with_all_its_cases(
    real_data, recognised, name, layout, cases, labelled, classes
):
    data, _, _ = recognised(real_data(name))
    assert data.layout == layout and [c.name for c in data.classes] == classes
    assert len(discover(data)) == cases and usable(data) == labelled
