"""Init recognises datasets, and says what it met where it does not."""

import json

import numpy as np
import pytest
import yaml

from pipeline.errors import SettingsError
from pipeline.init import init
from pipeline.run import RunSettings, load_settings


def classes(settings):
    return {c.name: (c.values, c.background) for c in settings.data.classes}


@pytest.fixture
def write_pairs(write_picture):
    """Give a function that writes pairs of PNG; masks hold the values, one after the other."""

    def write(root, values, images="images", masks="masks", cases=3, dtype=np.uint8):
        random = np.random.default_rng(0)
        for number in range(cases):
            pixels = random.integers(0, 256, (24, 25), dtype=np.uint8)
            write_picture(root / images / f"{number}.png", pixels)
            write_picture(root / masks / f"{number}.png", np.resize(values, (24, 25)).astype(dtype))
        return root

    return write


def recognised(root, tmp_path, name="run"):
    """Init a folder, and check that what was written loads to what was returned."""
    found = init(root, tmp_path / f"{name}.yaml")
    assert load_settings(tmp_path / f"{name}.yaml") == found.settings
    assert found.settings.data.root == str(root.resolve())
    return found


def test_a_decathlon_folder_gives_its_names(tmp_path, make_msd):
    make_msd(tmp_path / "data")
    found = recognised(tmp_path / "data", tmp_path)
    assert found.settings.data.layout == "msd" and found.settings.data.modality == "ct"
    assert classes(found.settings) == {
        "background": ((0,), True),
        "liver": ((1,), False),
        "tumour": ((2,), False),
    }
    assert found.summary == [
        "Decathlon dataset Liver: 4 labelled cases, 0 to predict",
        "classes: background (0), liver (1), tumour (2)",
    ]


def test_labels_in_the_other_direction_are_nnunets(tmp_path, make_msd):
    make_msd(tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    content = json.loads(path.read_text())
    del content["modality"]
    content |= {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3},
    }
    path.write_text(json.dumps(content))
    data = recognised(tmp_path / "data", tmp_path).settings.data
    assert [(c.name, c.values) for c in data.classes] == [
        ("background", (0,)),
        ("liver", (1,)),
        ("tumour", (2,)),
    ]
    assert data.ignore_values == (3,) and data.modality == "other"


def test_missing_files_of_a_listing_are_counted(tmp_path, make_msd):
    make_msd(tmp_path / "data")
    (tmp_path / "data" / "labelsTr" / "liver_1.nii.gz").unlink()
    found = recognised(tmp_path / "data", tmp_path)
    assert "1 of the files it lists are missing: segflow check names them" in found.summary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": None}, r"lacks what a Decathlon dataset.json holds"),
        ({"labels": ["a", "b"]}, r"lacks what a Decathlon dataset.json holds"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions of several values are not"),
        ({"labels": {"0": "background"}}, "at least two classes are needed"),
        ({"training": []}, "lists no case with a label: training needs some"),
    ],
)
def test_a_listing_that_cannot_be_used_is_refused(tmp_path, make_msd, change, message):
    make_msd(tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SettingsError, match=message):
        init(tmp_path / "data", tmp_path / "run.yaml")
    assert not (tmp_path / "run.yaml").exists()


def test_scenes_with_masks_1_and_2_have_two_classes_and_no_background(tmp_path, make_pairs):
    make_pairs(tmp_path / "data")
    found = recognised(tmp_path / "data", tmp_path)
    assert classes(found.settings) == {"class_1": ((1,), False), "class_2": ((2,), False)}
    assert found.summary[0] == "images in images/ and masks in masks/: 4 pairs by name"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 255], {"background": ((0,), True), "foreground": ((255,), False)}),
        ([0, 1], {"background": ((0,), True), "foreground": ((1,), False)}),
        (
            [0, 3, 7],
            {
                "background": ((0,), True),
                "class_3": ((3,), False),
                "class_7": ((7,), False),
            },
        ),
        ([1, 2], {"class_1": ((1,), False), "class_2": ((2,), False)}),
    ],
)
def test_classes_follow_the_values_of_the_masks(tmp_path, write_pairs, values, expected):
    root = write_pairs(tmp_path / "data", values)
    assert classes(recognised(root, tmp_path).settings) == expected
    text = (tmp_path / "run.yaml").read_text()
    counts = ", ".join(f"{v} in 3" for v in values)
    assert f"# Found in 3 of 3 masks: value {counts}." in text


def test_255_among_others_is_a_class_with_a_word_of_doubt(tmp_path, write_pairs):
    root = write_pairs(tmp_path / "data", [0, 1, 255])
    assert "class_255" in classes(recognised(root, tmp_path).settings)
    assert '255 often means "not annotated"' in (tmp_path / "run.yaml").read_text()


def test_negative_declared_and_missing_values_are_ignored(tmp_path, make_pairs, write_scene):
    make_pairs(tmp_path / "data", cases=1)
    (tmp_path / "data" / "masks" / "tile_0.png").unlink()
    mask = np.resize(np.array([0, 1, -1, 99, np.nan], np.float32), (1, 20, 24))
    write_scene(tmp_path / "data" / "masks" / "tile_0.tif", mask, nodata=99)
    found = recognised(tmp_path / "data", tmp_path)
    assert found.settings.data.ignore_values == (-1, 99)
    assert list(classes(found.settings)) == ["background", "foreground"]
    assert found.summary[1].endswith("ignored: -1, 99")
    assert "NaN, met in 1 masks, is never a class" in (tmp_path / "run.yaml").read_text()


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("image", "mask"),
        ("imagesTr", "labelsTr"),
        ("scans", "gt"),
        ("x", "y"),
        ("train/images", "train/masks"),
        ("tiles", "annotations"),
        ("train_images", "train_labels"),
        ("anything", "truth"),
        ("input", "something"),
    ],
)
def test_folders_are_told_apart_by_their_names(tmp_path, write_pairs, images, masks):
    data = recognised(write_pairs(tmp_path / "data", [0, 1], images, masks), tmp_path).settings.data
    assert (data.images, data.masks) == (images, masks)


def test_names_are_believed_even_where_the_image_has_few_values(tmp_path, write_pairs):
    root = write_pairs(tmp_path / "data", [0, 1], images="labels", masks="images")
    with pytest.raises(SettingsError, match=r"labels/0.png holds \d+ different values, a mask at"):
        init(root, tmp_path / "run.yaml")


@pytest.mark.parametrize(("images", "masks"), [("aaa", "bbb"), ("bbb", "aaa")])
def test_folders_are_told_apart_by_their_content_where_names_do_not_tell(
    tmp_path, write_pairs, images, masks
):
    data = recognised(write_pairs(tmp_path / "data", [0, 1], images, masks), tmp_path).settings.data
    assert (data.images, data.masks) == (images, masks)


def test_named_folders_come_before_others_that_share_the_names(tmp_path, write_pairs):
    write_pairs(tmp_path / "data", [0, 1], masks="preview", cases=5)
    root = write_pairs(tmp_path / "data", [0, 1])
    data = recognised(root, tmp_path).settings.data
    assert (data.images, data.masks) == ("images", "masks")


def test_files_without_a_partner_are_counted_and_named(tmp_path, write_pairs):
    root = write_pairs(tmp_path / "data", [0, 1])
    (root / "masks" / "1.png").unlink()
    (root / "images" / "2.png").unlink()
    assert recognised(root, tmp_path).summary[2:] == [
        "1 files in images/ have no mask and will be quarantined, the first 1.png",
        "1 files in masks/ have no image and will be quarantined, the first 2.png",
    ]


def test_damaged_masks_are_counted_and_left_to_check(tmp_path, write_pairs):
    root = write_pairs(tmp_path / "data", [0, 1])
    (root / "masks" / "1.png").write_bytes(b"broken")
    assert "1 masks could not be read: segflow check says why" in recognised(root, tmp_path).summary
    assert "Found in 2 of 3 masks" in (tmp_path / "run.yaml").read_text()


def other_names(root, tools):
    tools["picture"](root / "images" / "left.png", np.zeros((9, 9), np.uint8))
    tools["picture"](root / "masks" / "right.png", np.zeros((9, 9), np.uint8))


def strangers(root, tools):
    (root / "series").mkdir(parents=True)
    for number in range(3):
        (root / "series" / f"{number}.dcm").write_bytes(b"")


def nothing(root, tools):
    root.mkdir()


def one_value(root, tools):
    tools["pairs"](root, [0])


def two_images(root, tools):
    for folder in "ab":
        pixels = np.arange(100, dtype=np.uint8).reshape(10, 10)
        tools["picture"](root / folder / "0.png", pixels)


def two_masks(root, tools):
    for folder in "ab":
        tools["picture"](root / folder / "0.png", np.eye(9, dtype=np.uint8))


def probabilities(root, tools):
    tools["scan"](root / "images" / "0.nii.gz", np.ones((3, 3, 3), np.float32))
    tools["scan"](root / "masks" / "0.nii.gz", np.full((3, 3, 3), 0.25, np.float32))


def colours(root, tools):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    for folder in ("images", "masks"):
        tools["picture"](root / folder / "0.png", pixels)


def nested(root, tools):
    tools["msd"](root / "Task03_Liver")


REFUSED = {
    other_names: r"in masks/ is named like one in images/ \(left.png and right.png\): rename",
    strangers: r"holds 3 .dcm files, 1 folder, which is no known dataset: supported are a folder",
    nothing: r"holds nothing, which is no known dataset: supported are",
    one_value: r"the 3 masks read in masks/ hold only the value 0: training needs at least two",
    two_images: r"a/ and b/ in .* share names, and both look like images: name the folders",
    two_masks: r"a/ and b/ in .* share names, and both look like masks: name the folders",
    probabilities: r"masks/0.nii.gz holds the value 0.25: class numbers are whole",
    colours: r"no mask can be read; 0.png is a colour picture: a mask holds one number",
    nested: r"holds datasets in folders of its own \(Task03_Liver\): give one",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda f: f.__name__)
def test_a_folder_that_cannot_be_trained_on_is_refused_with_what_was_met(
    tmp_path, write_pairs, write_picture, write_scan, make_msd, make
):
    tools = {"pairs": write_pairs, "picture": write_picture, "scan": write_scan, "msd": make_msd}
    make(tmp_path / "data", tools)
    with pytest.raises(SettingsError, match=REFUSED[make]):
        init(tmp_path / "data", tmp_path / "run.yaml")
    assert not (tmp_path / "run.yaml").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="nowhere is not a folder: give the dataset's folder"):
        init(tmp_path / "nowhere", tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("file", "name"), [("hippo", "hippo"), ("my run (2)", "my-run-2"), ("_ü", "run"), ("7", "7")]
)
def test_the_run_is_named_after_the_file(tmp_path, write_pairs, file, name):
    settings = recognised(write_pairs(tmp_path / "data", [0, 1]), tmp_path, file).settings
    assert (settings.name, settings.run_dir) == (name, f"runs/{name}")


def test_every_setting_is_written_out_under_its_description(tmp_path, write_pairs):
    settings = recognised(write_pairs(tmp_path / "data", [0, 1]), tmp_path).settings
    text = (tmp_path / "run.yaml").read_text()
    assert yaml.safe_load(text) == settings.model_dump(mode="json")
    assert all(len(line) <= 100 or "root:" in line for line in text.splitlines())
    lines = text.splitlines()
    for section, field in RunSettings.model_fields.items():
        place = next(i for i, line in enumerate(lines) if line.startswith((f"{section}:",)))
        assert lines[place - 1].startswith("# "), field


def test_strange_paths_survive_the_yaml(tmp_path, write_pairs):
    root = write_pairs(tmp_path / "data: #1 'ü' \"x\"", [0, 1])
    recognised(root, tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hippocampus", ["background", "Anterior", "Posterior"]),
        ("amazon_forest", ["class_1", "class_2"]),
        ("isbi2012", ["background", "foreground"]),
    ],
)
def test_real_folders_are_recognised(tmp_path, real_data, name, expected):
    found = recognised(real_data(name), tmp_path)
    assert [c.name for c in found.settings.data.classes] == expected
