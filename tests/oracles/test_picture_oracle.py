"""PNG, JPEG and BMP as Pillow sees them, and 16 bits in colour as imagecodecs does."""

import contextlib
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import CaseError
from pipeline.io.readers import case_id, open_source
from pipeline.io.readers.pictures.picture import write_png
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


def png(width, height, depth, colour, rows, *chunks, interlaced=0):
    """A PNG made by hand: what Pillow does not write."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), *(chunk(*c) for c in chunks), chunk(b"IDAT", rows)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def packed(rows):
    """Rows of bytes as PNG packs them, unfiltered."""
    return zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_16_bits_are_kept_in_every_kind_of_png(tmp_path, samples):
    pixels = np.random.default_rng(2).integers(0, 2**16, (12, 15, samples), dtype=np.uint16)
    pixels[3:5, :, -1] = 0
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels.squeeze()))
    volume = read(tmp_path / "a.png")
    colours = samples - (samples in (2, 4))
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array, pixels[..., :colours].transpose(2, 0, 1))
    if samples != colours:
        np.testing.assert_array_equal(volume.valid, pixels[..., -1] > 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("role", ["image", "mask"])
def test_every_mode_of_png_is_what_pillow_shows(tmp_path, mode, role):
    picture = Image.fromarray(GREY.astype(np.uint16) * 9) if mode == "I;16" else None
    picture = picture or Image.fromarray(GREY).convert("RGB").convert(mode)
    picture.save(tmp_path / "a.png")
    shown = Image.open(tmp_path / "a.png")
    expected = np.atleast_3d(np.asarray(shown.convert("RGB") if mode == "P" else shown))
    if role == "mask":
        expected = np.asarray(shown)[..., None] if mode in "1LPI;16" else expected[..., :1]
    elif mode in ("LA", "RGBA"):
        expected = expected[..., :-1]
    found = read(tmp_path / "a.png", role).array
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_are_what_pillow_shows(tmp_path, depth):
    rows = np.random.default_rng(3).integers(0, 256, (6, 2), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png(16 // depth, 6, depth, 0, packed(rows)))
    expected = np.asarray(Image.open(tmp_path / "a.png")).astype(np.uint8)
    for role in ("image", "mask"):
        np.testing.assert_array_equal(read(tmp_path / "a.png", role).array[0], expected)


@pytest.mark.parametrize(
    ("colour", "key", "rows"),
    [
        (0, struct.pack(">H", 7), [[7, 1, 7], [2, 7, 3]]),
        (
            2,
            struct.pack(">3H", 7, 8, 9),
            [[7, 8, 9, 7, 8, 0, 1, 1, 1], [7, 8, 9, 0, 0, 0, 7, 8, 9]],
        ),
    ],
)
def test_a_transparent_colour_is_no_data(tmp_path, colour, key, rows):
    (tmp_path / "a.png").write_bytes(png(3, 2, 8, colour, packed(rows), (b"tRNS", key)))
    shown = Image.open(tmp_path / "a.png").convert("RGBA")
    np.testing.assert_array_equal(read(tmp_path / "a.png").valid, np.asarray(shown)[..., 3] > 0)


def test_a_transparent_entry_of_a_palette_is_no_data(tmp_path):
    labels = (GREY % 3).astype(np.uint8)
    picture = Image.fromarray(labels, "L").convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 250])
    picture.save(tmp_path / "a.png", transparency=1)
    volume = read(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.valid, labels != 1)
    np.testing.assert_array_equal(read(tmp_path / "a.png", "mask").array[0], labels)


def test_an_interlaced_png_is_read(tmp_path):
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    parts = [GREY[y::dy, x::dx] for y, x, dy, dx in [*passes, (1, 0, 2, 1)]]
    rows = packed([row for part in parts for row in part])
    (tmp_path / "a.png").write_bytes(png(15, 12, 8, 0, rows, interlaced=1))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), GREY)
    np.testing.assert_array_equal(read(tmp_path / "a.png").array[0], GREY)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_is_what_pillow_shows(tmp_path, mode):
    Image.fromarray(COLOUR).convert(mode).save(tmp_path / "a.bmp")
    shown = Image.open(tmp_path / "a.bmp")
    expected = np.asarray(shown.convert("RGB") if shown.mode == "P" else shown)
    found = read(tmp_path / "a.bmp").array
    np.testing.assert_array_equal(found, np.atleast_3d(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_jpeg_is_what_pillow_shows(tmp_path, options):
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", **options)
    expected = np.asarray(Image.open(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(read(tmp_path / "a.jpg").array, expected.transpose(2, 0, 1))


def test_the_header_alone_tells_size_channels_and_type(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:60])
    source = open_source(tmp_path / "a.png", "image")
    assert (source.grid.shape, source.channels, source.dtype) == ((12, 15), 3, np.uint8)
    assert source.block == (12, 15) and not source.sequential and not source.placed


def test_windows_are_parts_of_the_whole(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png", "image")
    box = Window((3, 4), (5, 7))
    expected = COLOUR.transpose(2, 0, 1)[(slice(None), *box.slices)]
    np.testing.assert_array_equal(source.read(box).array, expected)
    assert source.read(box).grid == source.grid.cropped(box)


def test_many_threads_decode_once_and_read_the_same(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png", "image")
    whole = Window.whole(source.grid.shape)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: source.read(whole).array, range(32)))
    (tmp_path / "a.png").unlink()
    for array in [*found, source.read(whole).array]:
        np.testing.assert_array_equal(array, COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize("keep", [0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_a_torn_file_is_the_cases_fault(tmp_path, keep, name):
    Image.fromarray(COLOUR.repeat(9, 0)).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CaseError, match=rf"{name} cannot be read: it is truncated or damaged"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_flipped_bytes_are_read_or_are_the_cases_fault(tmp_path, name):
    random = np.random.default_rng(4)
    Image.fromarray(COLOUR).save(tmp_path / name)
    content = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
    for _ in range(150):
        flipped = content.copy()
        flipped[random.integers(0, len(content), 3)] = random.integers(0, 256, 3)
        (tmp_path / name).write_bytes(flipped.tobytes())
        with contextlib.suppress(CaseError):
            source = open_source(tmp_path / name, "image")
            source.read(Window.whole(source.grid.shape).clipped((1, 1)))


def test_a_png_that_claims_more_than_deflate_packs_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(60_000, 60_000, 8, 2, packed([[0] * 9])))
    with pytest.raises(CaseError, match=r"a.png cannot be read.*bytes claim to hold 10800000000"):
        open_source(tmp_path / "a.png", "image")


def test_a_picture_too_large_to_decode_is_refused_with_what_to_do(tmp_path):
    content = png(40_000, 40_000, 8, 2, packed([[0] * 9]))
    with (tmp_path / "a.png").open("wb") as file:
        file.write(content)
        file.truncate(10**8)
    with pytest.raises(
        CaseError, match=r"a.png has 40000 rows of 40000 pixels.*Save it as a tiled"
    ):
        open_source(tmp_path / "a.png", "image")


def test_a_jpeg_that_claims_more_than_it_holds_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "JPEG")
    size = struct.pack(">HH", 12, 15)
    claimed = buffer.getvalue().replace(size, struct.pack(">HH", 65_000, 65_000))
    (tmp_path / "a.jpg").write_bytes(claimed)
    with pytest.raises(CaseError, match=r"a.jpg cannot be read.*bytes claim to hold"):
        open_source(tmp_path / "a.jpg", "image")


def test_a_slide_that_pillow_takes_for_a_bomb_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.png").array.shape == read(tmp_path / "a.jpg").array.shape


def test_only_the_formats_that_a_suffix_may_mean_are_tried(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(CaseError, match=r"a.png cannot be read.*neither PNG, JPEG nor BMP"):
        open_source(tmp_path / "a.png", "image")


def test_a_png_named_jpg_is_read_for_what_it_is(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg").array, COLOUR.transpose(2, 0, 1))


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
    (tmp_path / "a.doc").write_bytes(b"BM")
    with pytest.raises(
        CaseError, match=r"a.doc is of no known format \(.nii.gz, .nii, .*, .zarr\)"
    ):
        open_source(tmp_path / "a.doc", "image")
    with pytest.raises(CaseError, match=r"a.png does not exist. Restore the file"):
        open_source(tmp_path / "a.png", "image")


def test_suffixes_are_known_in_any_case(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "A.PNG")
    assert case_id(tmp_path / "A.PNG") == "A"
    np.testing.assert_array_equal(read(tmp_path / "A.PNG").array[0], GREY)


def test_real_pictures_are_what_pillow_shows(real_data):
    cells = sorted((real_data("dsb2018") / "stage1_train").glob("*/images/*.png"))[:20]
    slices = sorted((real_data("isbi2012") / "images").glob("*.png"))[:5]
    for path in [*cells, *slices]:
        shown = np.atleast_3d(np.asarray(Image.open(path)))
        volume = read(path)
        np.testing.assert_array_equal(volume.array, shown[..., :3].transpose(2, 0, 1))
        assert volume.valid is None
    for path in sorted((real_data("isbi2012") / "labels").glob("*.png"))[:5]:
        np.testing.assert_array_equal(read(path, "mask").array[0], np.asarray(Image.open(path)))
