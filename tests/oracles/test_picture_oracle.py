"""PNG and JPEG as Pillow sees them."""

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import CaseError
from pipeline.io.readers import case_id, open_source
from pipeline.io.readers.picture import write_png
from pipeline.space import Window

GREY = np.random.default_rng(0).integers(0, 256, (12, 15), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 15, 3), dtype=np.uint8)


def read(path, role="image"):
    source = open_source(path, role)
    volume = source.read(Window.whole(source.grid.shape))
    assert (source.channels, source.dtype) == (len(volume.array), volume.array.dtype)
    return volume


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_pictures_keep_every_bit(tmp_path, dtype):
    pixels = (GREY.astype(dtype) * (257 if dtype == "uint16" else 1)).astype(dtype)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    volume = read(tmp_path / "a.png")
    assert volume.array.dtype == dtype and volume.valid is None
    np.testing.assert_array_equal(volume.array, pixels[None])


def test_colours_are_channels(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").array, COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_validity_and_no_channel(tmp_path, mode):
    alpha = np.where(GREY > 128, 255, 0).astype(np.uint8)
    picture = Image.fromarray(COLOUR if mode == "RGBA" else GREY)
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "a.png")
    volume = read(tmp_path / "a.png")
    assert len(volume.array) == len(mode) - 1
    np.testing.assert_array_equal(volume.valid, alpha > 0)


def test_a_palette_is_colours_in_an_image_and_labels_in_a_mask(tmp_path):
    labels = (GREY % 3).astype(np.uint8)
    picture = Image.fromarray(labels).convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 250])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", "mask").array, labels[None])
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    np.testing.assert_array_equal(read(tmp_path / "a.png").array, expected.transpose(2, 0, 1))


def test_a_bilevel_mask_has_the_labels_0_and_1(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", "mask").array[0], GREY > 100)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_grey_mask_saved_in_colour_is_read_and_a_coloured_one_refused(tmp_path, channels):
    modes = {2: "LA", 3: "RGB", 4: "RGBA"}
    Image.fromarray(GREY).convert(modes[channels]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", "mask").array[0], GREY)
    Image.fromarray(COLOUR).save(tmp_path / "b.png")
    with pytest.raises(CaseError, match=r"b.png is a colour picture: a mask holds one number"):
        read(tmp_path / "b.png", "mask")


def test_jpeg_of_printers_ink_has_three_channels_and_no_holes(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "a.jpg")
    volume = read(tmp_path / "a.jpg")
    assert len(volume.array) == 3 and volume.valid is None


@pytest.mark.parametrize("keep", [0, 20, 150])
def test_a_damaged_file_is_the_cases_fault(tmp_path, keep):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:keep])
    with pytest.raises(CaseError, match=r"a.png cannot be read: it is truncated or damaged"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    "array",
    [GREY, GREY.astype(np.uint16) * 200, COLOUR.transpose(2, 0, 1)],
    ids=["grey", "16 bit", "colour"],
)
def test_a_written_picture_comes_back(tmp_path, array):
    write_png(tmp_path / "folder" / "a.png", array)
    found = read(tmp_path / "folder" / "a.png").array
    np.testing.assert_array_equal(found if array.ndim == 3 else found[0], array)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "folder" / "a.png")),
        array if array.ndim == 2 else array.transpose(1, 2, 0),
    )


def test_a_file_of_no_known_format_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "a.bmp").write_bytes(b"BM")
    with pytest.raises(CaseError, match=r"a.bmp is of no known format \(.nii.gz, .nii, .tif"):
        open_source(tmp_path / "a.bmp", "image")
    with pytest.raises(CaseError, match=r"a.png does not exist. Restore the file"):
        open_source(tmp_path / "a.png", "image")


def test_suffixes_are_known_in_any_case(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "A.PNG")
    assert case_id(tmp_path / "A.PNG") == "A"
    np.testing.assert_array_equal(read(tmp_path / "A.PNG").array[0], GREY)
