"""Which files make which case."""

import pytest
from pydantic import ValidationError

from pipeline.errors import SettingsError
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.discover import discover, discover_images

CLASSES = (
    ClassSettings(name="background", values=(0,), background=True),
    ClassSettings(name="object", values=(1,)),
)


@pytest.fixture
def lay_out(tmp_path):
    """Give a function that makes empty files and settings of the folder they lie in."""

    def make(*names, **fields):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        return DataSettings(root=str(tmp_path), layout="pairs", classes=CLASSES, **fields)

    return make


def told(data):
    """Cases with the names of their files under the root."""

    def names(origin):
        return [p.relative_to(data.root).as_posix() for p in origin.paths] if origin else []

    return {c.case: (names(c.image), names(c.mask)) for c in discover(data) if c.problem is None}


def problems(data):
    return {c.case: f"{c.problem.reason} {c.problem.remedy}" for c in discover(data) if c.problem}


def test_channel_files_of_one_case_follow_the_order_of_the_patterns(lay_out):
    data = lay_out(
        "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz",
        "imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz", "labelsTr/b.nii.gz",
        images=("imagesTr/{case}_0001.nii.gz", "imagesTr/{case}_0000.nii.gz"),
        masks="labelsTr/{case}.nii.gz",
    )  # fmt: skip
    assert told(data) == {
        c: ([f"imagesTr/{c}_0001.nii.gz", f"imagesTr/{c}_0000.nii.gz"], [f"labelsTr/{c}.nii.gz"])
        for c in "ab"
    }
    assert {c.image.stack for c in discover(data)} == {"channels"}


def test_a_case_that_lacks_a_channel_file_is_refused_by_its_name(lay_out):
    data = lay_out("a_B02.tif", "a_B03.tif", "b_B02.tif",
                   images=("{case}_B02.tif", "{case}_B03.tif"), masks=None)  # fmt: skip
    assert set(told(data)) == {"a"}
    assert "has no file b_B03.tif" in problems(data)["b"]


def test_a_mask_per_object_is_one_mask(lay_out):
    data = lay_out("x/images/x.png", "x/masks/2.png", "x/masks/1.png", "y/images/y.png",
                   images="{case}/images/{case}.png", masks="{case}/masks/*.png")  # fmt: skip
    assert told(data) == {"x": (["x/images/x.png"], ["x/masks/1.png", "x/masks/2.png"])}
    assert "has no mask in y/masks/*.png" in problems(data)["y"]


def test_the_case_must_be_the_same_wherever_a_pattern_names_it(lay_out):
    data = lay_out("x/x.png", "y/z.png", images="{case}/{case}.png", masks=None)
    assert set(told(data)) == {"x"}


def test_an_array_inside_a_file_is_named_after_two_colons(lay_out):
    data = lay_out("s.mat", images="{case}.mat::images", masks="{case}.mat::manualFluid1")
    (case,) = discover(data)
    assert (case.image.items, case.mask.items) == (("images",), ("manualFluid1",))
    assert case.image.name == "s.mat::images"


def test_a_zarr_folder_is_one_file(lay_out):
    data = lay_out("images/a.zarr/zarr.json", "images/a.zarr/0/zarr.json", masks=None)
    assert told(data) == {"a": (["images/a.zarr"], [])}


def test_polygons_are_masks_and_never_images(lay_out):
    data = lay_out("images/a.tif", "images/a.geojson", "masks/a.geojson")
    assert told(data) == {"a": (["images/a.tif"], ["masks/a.geojson"])}


def test_a_file_that_the_masks_pattern_fits_is_no_image(lay_out):
    data = lay_out("a.png", "a_mask.png", images="{case}.png", masks="{case}_mask.png")
    assert told(data) == {"a": (["a.png"], ["a_mask.png"])} and not problems(data)


def test_two_files_of_one_case_are_refused(lay_out):
    data = lay_out("images/a.tif", "images/a.png", "masks/a.png")
    assert "are both case a" in problems(data)["a"]


def test_a_mask_without_an_image_is_a_refused_case(lay_out):
    data = lay_out("images/a.tif", "masks/a.png", "masks/b.png")
    assert set(told(data)) == {"a"}
    assert "the mask b.png has no image in images/" in problems(data)["b"]


def test_a_star_in_a_case_id_is_text(lay_out):
    data = lay_out("a*b/scan.nii", "axb/scan.nii", images="{case}/scan.nii", masks=None)
    assert set(told(data)) == {"a*b", "axb"}


@pytest.mark.parametrize("pattern", ["../{case}.tif", "/etc/{case}", "a/../../{case}.tif"])
def test_a_pattern_that_leaves_the_folder_is_refused(lay_out, pattern):
    with pytest.raises(SettingsError, match="leaves the dataset's folder"):
        discover(lay_out("a.tif", images=pattern, masks=None))


@pytest.mark.parametrize("fields", [
    {"images": ("a.tif", "b.tif")}, {"masks": "masks/*.png"}, {"images": "x.mat::images"},
])  # fmt: skip
def test_a_pattern_without_a_case_is_refused(lay_out, fields):
    with pytest.raises(ValidationError, match=r"is a pattern, but holds no \{case\}"):
        lay_out(**fields)


def test_new_images_are_found_as_the_datasets_were(lay_out, tmp_path):
    data = lay_out(images=("in/{case}_0000.nii", "in/{case}_0001.nii"), masks=None)
    for name in ("p_0000.nii", "p_0001.nii", "notes.txt"):
        (tmp_path / "new" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "new" / name).write_bytes(b"")
    (case,) = discover_images([tmp_path / "new"], data)
    assert (case.case, len(case.image.paths), case.mask) == ("p", 2, None)


def test_new_images_of_any_name_are_images_where_the_pattern_fits_none(lay_out, tmp_path):
    data = lay_out("new/odd.nii", images="in/{case}_T1.nii", masks=None)
    (case,) = discover_images([tmp_path / "new"], data)
    assert case.case == "odd"


def test_an_input_that_is_not_there_is_named(lay_out, tmp_path):
    with pytest.raises(SettingsError, match=r"--input .*nowhere: there is no such file or folder"):
        discover_images([tmp_path / "nowhere"], lay_out())
