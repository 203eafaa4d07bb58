"""Stacks of pages as tifffile sees them."""

import contextlib
import re
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.errors import CaseError
from pipeline.io.readers import open_source
from pipeline.io.readers.pictures.stack import is_stack
from pipeline.space import Window, voxel_grid

RANDOM = np.random.default_rng(0)
PLANES = RANDOM.integers(0, 60_000, (5, 70, 52), dtype=np.uint16)
COLOUR = RANDOM.integers(0, 256, (5, 70, 52, 3), dtype=np.uint8)
MICRONS = {"PhysicalSizeZ": 0.3, "PhysicalSizeY": 0.1, "PhysicalSizeX": 0.2}


def whole(source):
    volume = source.read(Window.whole(source.grid.shape))
    assert (len(volume.array), volume.array.dtype) == (source.channels, source.dtype)
    return volume


def pages(path, planes, bigtiff=False, byteorder="<", **options):
    """Write planes as pages that say nothing of being a stack, as most programs do."""
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as file:
        for plane in planes:
            file.write(plane, metadata=None, contiguous=False, **options)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"rowsperstrip": 16},
        {"tile": (32, 16)},
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True, "rowsperstrip": 9},
        {"compression": "zlib", "tile": (16, 32)},
        {"compression": "zstd", "predictor": True},
        {"compression": "packbits"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", ">i4"])
def test_pages_are_slices_however_they_are_packed(tmp_path, options, dtype):
    if dtype == "float32" and "predictor" in options:
        options = {**options, "predictor": 3}
    planes = PLANES.astype(dtype)
    pages(tmp_path / "a.tif", planes, byteorder=">" if dtype == ">i4" else "<", **options)
    source = open_source(tmp_path / "a.tif", "image")
    assert source.grid == voxel_grid((5, 70, 52)) and not source.placed and not source.sequential
    assert source.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(whole(source).array[0], planes)
    box = Window((1, 13, 7), (3, 40, 33))
    np.testing.assert_array_equal(source.read(box).array[0], planes[box.slices])
    assert source.read(box).grid == source.grid.cropped(box)


def in_order(voxels, axes):
    """Voxels as (C, Z, Y, X) or (C, Y, X); an axis of one time point is summed away."""
    letters = axes.lower().replace("s", "c")
    found = np.einsum(f"{letters}->{''.join(a for a in 'czyx' if a in letters)}", voxels)
    return found if "c" in letters else found[None]


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("ZYX", (5, 20, 24)),
        ("CZYX", (2, 5, 20, 24)),
        ("ZCYX", (5, 2, 20, 24)),
        ("TZCYX", (1, 5, 2, 20, 24)),
        ("CYX", (3, 20, 24)),
        ("ZYXS", (5, 20, 24, 3)),
        ("YXS", (20, 24, 3)),
    ],
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_axes_become_channels_and_space(tmp_path, axes, shape, compression):
    voxels = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    options = {"photometric": "rgb" if "S" in axes else "minisblack", "compression": compression}
    tifffile.imwrite(tmp_path / "a.ome.tif", voxels, metadata={"axes": axes, **MICRONS}, **options)
    source = open_source(tmp_path / "a.ome.tif", "image")
    np.testing.assert_array_equal(whole(source).array, in_order(voxels, axes))
    assert source.grid.unit == "millimeter" and not source.placed
    scale = (3e-4, 1e-4, 2e-4)[-len(source.grid.shape) :]
    np.testing.assert_allclose(source.grid.spacing, scale)
    np.testing.assert_array_equal(source.grid.matrix[:-1, -1], 0)


def test_a_scale_runs_along_its_own_axis(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES, metadata={"axes": "ZYX", **MICRONS})
    grid = open_source(tmp_path / "a.ome.tif", "image").grid
    np.testing.assert_allclose(grid.index_to_world((1, 2, 3)), (6e-4, 2e-4, 3e-4))


@pytest.mark.parametrize(
    ("unit", "millimetres"),
    [("nm", 1e-6), ("µm", 1e-3), ("mm", 1.0), ("cm", 10.0), ("Å", 1e-7), ("pixel", None)],
)
def test_units_of_ome_become_millimetres(tmp_path, unit, millimetres):
    metadata = {"axes": "ZYX"}
    metadata |= {f"PhysicalSize{axis}": 2 for axis in "XYZ"}
    metadata |= {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES, metadata=metadata)
    grid = open_source(tmp_path / "a.ome.tif", "image").grid
    if millimetres is None:
        assert grid == voxel_grid(PLANES.shape)
    else:
        np.testing.assert_allclose(grid.spacing, [2 * millimetres] * 3)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("ZYX", (5, 20, 24)), ("ZCYX", (5, 2, 20, 24)), ("CYX", (2, 20, 24)), ("ZYXS", (4, 9, 8, 3))],
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_hyperstacks_keep_order_and_scale(tmp_path, axes, shape, compression):
    voxels = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        voxels,
        imagej=True,
        compression=compression,
        resolution=(5.0, 4.0),
        metadata={"axes": axes, "spacing": 0.5, "unit": "um"},
    )
    source = open_source(tmp_path / "a.tif", "image")
    np.testing.assert_array_equal(whole(source).array, in_order(voxels, axes))
    scale = (5e-4, 2.5e-4, 2e-4)[-len(source.grid.shape) :]
    np.testing.assert_allclose(source.grid.spacing, scale, rtol=1e-6)


def test_a_shaped_stack_of_four_axes_is_channels_of_slices(tmp_path):
    voxels = RANDOM.integers(0, 256, (2, 5, 20, 24), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", voxels)
    np.testing.assert_array_equal(whole(open_source(tmp_path / "a.tif", "image")).array, voxels)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_colours_are_channels_however_they_are_laid(tmp_path, planar, tile):
    planes = COLOUR if planar == "contig" else COLOUR.transpose(0, 3, 1, 2)
    options = {"photometric": "rgb", "planarconfig": planar, "compression": "zlib", "tile": tile}
    source = open_source(pages(tmp_path / "a.tif", planes, **options), "image")
    np.testing.assert_array_equal(whole(source).array, COLOUR.transpose(3, 0, 1, 2))
    box = Window((2, 11, 30), (2, 30, 20))
    expected = COLOUR.transpose(3, 0, 1, 2)[(slice(None), *box.slices)]
    np.testing.assert_array_equal(source.read(box).array, expected)


def test_transparency_is_validity(tmp_path):
    alpha = (COLOUR[..., :1] > 128).astype(np.uint8) * 255
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"], "compression": "zlib"}
    planes = np.concatenate([COLOUR, alpha], axis=-1)
    source = open_source(pages(tmp_path / "a.tif", planes, **options), "image")
    volume = whole(source)
    assert source.channels == 3
    np.testing.assert_array_equal(volume.valid, alpha[..., 0] > 0)


@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_jpeg_pages_are_what_tifffile_decodes(tmp_path, tile):
    options = {"photometric": "ycbcr", "compression": "jpeg", "tile": tile}
    path = pages(tmp_path / "a.tif", COLOUR, **options)
    expected = tifffile.imread(path).transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(whole(open_source(path, "image")).array, expected)


def test_pages_of_one_bit_are_0_and_1(tmp_path):
    path = pages(tmp_path / "a.tif", PLANES > 30_000)
    source = open_source(path, "mask")
    np.testing.assert_array_equal(whole(source).array[0], PLANES > 30_000)


def test_a_stack_that_pillow_wrote_is_read(tmp_path):
    first, *others = [Image.fromarray(plane) for plane in PLANES]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression="tiff_lzw")
    np.testing.assert_array_equal(whole(open_source(tmp_path / "a.tif", "image")).array[0], PLANES)


def test_blocks_are_what_the_file_decodes_at_once(tmp_path):
    blocks = {
        "tiles": {"tile": (32, 16), "compression": "zlib"},
        "strips": {"rowsperstrip": 16, "compression": "zlib"},
        "planes": {"compression": "zlib"},
    }
    found = {
        name: open_source(pages(tmp_path / f"{name}.tif", PLANES, **options), "image").block
        for name, options in blocks.items()
    }
    assert found == {"tiles": (1, 32, 16), "strips": (1, 16, 52), "planes": (1, 70, 52)}


def ome_set(folder, names):
    """Write one plane per file, each with the OME-XML of the whole set."""
    tifffile.imwrite(folder / "whole.ome.tif", PLANES[: len(names)], metadata={"axes": "ZYX"})
    with tifffile.TiffFile(folder / "whole.ome.tif") as file:
        xml = file.ome_metadata
    parts = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}'
        "</UUID></TiffData>"
        for z, name in enumerate(names)
    )
    start, end = xml.index("<TiffData"), xml.index("</Pixels>")
    xml = xml[:start] + parts + xml[end:]
    for z in range(len(names)):
        described = re.sub(' UUID="[^"]*"', f' UUID="urn:uuid:{z}"', xml, count=1)
        path, options = folder / f"{z}.ome.tif", {"metadata": None, "compression": "zlib"}
        tifffile.imwrite(path, PLANES[z], description=described, **options)
    return folder / "0.ome.tif"


def test_files_of_an_ome_set_are_one_image(tmp_path):
    source = open_source(ome_set(tmp_path, ["0.ome.tif", "1.ome.tif"]), "image")
    np.testing.assert_array_equal(whole(source).array[0], PLANES[:2])


@pytest.mark.parametrize("name", ["../1.ome.tif", "/etc/passwd", "C:\\\\secret.tif", "a/1.tif"])
def test_an_ome_set_stays_in_its_folder(tmp_path, name):
    path = ome_set(tmp_path, ["0.ome.tif", name])
    with pytest.raises(CaseError, match=r"0.ome.tif names a file outside its folder. Put the fil"):
        open_source(path, "image")


def test_an_ome_set_with_a_file_missing_is_refused(tmp_path):
    path = ome_set(tmp_path, ["0.ome.tif", "1.ome.tif"])
    (tmp_path / "1.ome.tif").unlink()
    with pytest.raises(CaseError, match=r"0.ome.tif cannot be read.*page 1 of 2 is missing"):
        open_source(path, "image")


def test_stacks_and_scenes_are_told_apart(tmp_path, write_scene):
    thumbnail = PLANES[0, ::2, ::2]
    tiled = {"tile": (16, 16), "metadata": None}
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(PLANES[0], subifds=1, **tiled)
        file.write(thumbnail, subfiletype=1, **tiled)
    with tifffile.TiffWriter(tmp_path / "overviews.tif") as file:
        file.write(PLANES[0], **tiled)
        file.write(thumbnail, subfiletype=1, **tiled)
        file.write(PLANES[0] > 9, subfiletype=4, metadata=None)
    with tifffile.TiffWriter(tmp_path / "masked.tif") as file:
        file.write(PLANES[0] > 0, metadata=None)
        file.write(PLANES[0] > 9, subfiletype=4, metadata=None)
    bands = np.stack([thumbnail] * 4)
    write_scene(tmp_path / "scene.tif", bands, nodata=0, compress="lzw")
    write_scene(tmp_path / "plain.tif", bands, crs=None)
    pages(tmp_path / "stack.tif", PLANES)
    tifffile.imwrite(tmp_path / "shaped.tif", PLANES)
    tifffile.imwrite(tmp_path / "contiguous.tif", PLANES, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "one.tif", PLANES[0])
    (tmp_path / "torn.tif").write_bytes((tmp_path / "stack.tif").read_bytes()[:60])
    found = {path.stem: is_stack(path) for path in tmp_path.glob("*.tif")}
    stacks = {"stack", "shaped", "contiguous"}
    assert {name for name, stack in found.items() if stack} == stacks
    assert len(found) == 10


def test_scenes_are_still_read_as_scenes(tmp_path, write_scene):
    bands = RANDOM.integers(0, 9, (3, 20, 24), dtype=np.uint8)
    source = open_source(write_scene(tmp_path / "a.tif", bands), "image")
    assert source.placed and source.grid.crs is not None and source.channels == 3


@pytest.mark.parametrize("axes", ["TYX", "TZYX"])
def test_time_points_are_refused_with_what_to_do(tmp_path, axes):
    voxels = np.zeros((3, 2, 8, 9)[-len(axes) :] if len(axes) == 4 else (3, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", voxels, metadata={"axes": axes})
    with pytest.raises(
        CaseError, match=r"a.ome.tif has axes T.*one axis of channels. Split the ti"
    ):
        open_source(tmp_path / "a.ome.tif", "image")


def test_two_images_in_a_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for shape in [(3, 20, 24), (3, 30, 24)]:
            for plane in np.zeros(shape, np.uint8):
                file.write(plane, metadata=None, contiguous=False)
    with pytest.raises(
        CaseError, match=r"a.tif holds 2 images \(\(3, 20, 24\), \(3, 30, 24\)\): one"
    ):
        open_source(tmp_path / "a.tif", "image")


@pytest.mark.parametrize("keep", [0.999, 0.9, 0.5, 0.1, 0.01, 0.0])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "lzw"}, {"compression": "zlib", "tile": (16, 16)}], ids=str
)
def test_a_torn_stack_is_the_cases_fault(tmp_path, keep, options):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PLANES, metadata={"axes": "ZYX"}, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CaseError, match=r"a.ome.tif (cannot be read|holds|claims)"):
        whole(open_source(path, "image"))


def test_flipped_bytes_are_read_or_are_the_cases_fault(tmp_path):
    random = np.random.default_rng(5)
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES, compression="lzw", metadata={"axes": "ZYX"})
    pages(tmp_path / "b.tif", PLANES, compression="zlib", tile=(16, 16))
    tifffile.imwrite(tmp_path / "c.tif", PLANES, imagej=True, metadata={"axes": "ZYX"})
    for name in ("a.ome.tif", "b.tif", "c.tif"):
        content = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(60):
            torn = content.copy()
            # Most of a file is voxels: the header's bytes are at both ends.
            places = np.concatenate([random.integers(0, 3000, 3), -random.integers(1, 3000, 3)])
            torn[places] = random.integers(0, 256, 6)
            (tmp_path / name).write_bytes(torn.tobytes())
            with contextlib.suppress(CaseError):
                source = open_source(tmp_path / name, "image")
                source.read(Window.whole(source.grid.shape).clipped((2,) * len(source.grid.shape)))


def test_a_chain_of_pages_that_never_ends_is_refused(tmp_path):
    entries = struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 9)
    loop = struct.pack("<2sHI", b"II", 42, 8) + entries + struct.pack("<I", 8)
    (tmp_path / "a.ome.tif").write_bytes(loop)
    with pytest.raises(CaseError, match=r"a.ome.tif cannot be read.*chain of pages is broken"):
        open_source(tmp_path / "a.ome.tif", "image")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('SizeZ="5"', 'SizeZ="5000000000"'),
        ('PlaneCount="5"', 'PlaneCount="9999999999"'),
        ('SizeZ="5"', 'SizeZ="-5"'),
        ('SizeX="52"', 'SizeX="999999999"'),
        ("<TiffData", "<ModuloAlongZ/><TiffData"),
    ],
)
def test_ome_metadata_that_claim_too_much_are_refused(tmp_path, before, after):
    metadata = {"axes": "ZYX", "UUID": "u"}
    tifffile.imwrite(tmp_path / "a.ome.tif", PLANES, metadata=metadata, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        xml = file.ome_metadata
    assert before in xml
    described = xml.replace(before, after)
    pages(tmp_path / "b.ome.tif", PLANES, compression="zlib", description=described)
    with pytest.raises(CaseError, match=r"b.ome.tif (cannot be read|has an axis inside|has axes)"):
        whole(open_source(tmp_path / "b.ome.tif", "image"))


def test_pages_that_claim_more_than_they_hold_are_refused_before_memory_is_taken(tmp_path):
    path = pages(tmp_path / "a.ome.tif", PLANES, compression="zlib")
    content = bytearray(path.read_bytes())
    for tag in (256, 257, 278):
        entry = content.find(struct.pack("<HH", tag, 3))
        while entry >= 0:
            content[entry : entry + 12] = struct.pack("<HHII", tag, 4, 1, 2_000_000)
            entry = content.find(struct.pack("<HH", tag, 3))
        entry = content.find(struct.pack("<HHI", tag, 4, 1))
        content[entry : entry + 12] = struct.pack("<HHII", tag, 4, 1, 2_000_000)
    path.write_bytes(content)
    with pytest.raises(CaseError, match=r"a.ome.tif (claims \d+ bytes in a block|holds)"):
        open_source(path, "image")


def test_many_threads_read_what_one_does(tmp_path):
    for name, options in {"a": {}, "b": {"compression": "zlib", "tile": (16, 16)}}.items():
        source = open_source(pages(tmp_path / f"{name}.tif", PLANES, **options), "image")
        boxes = [Window((z, y, 0), (2, 20, 52)) for z in range(4) for y in range(0, 50, 5)] * 5
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda box, s=source: s.read(box).array[0], boxes))
        for box, array in zip(boxes, found, strict=True):
            np.testing.assert_array_equal(array, PLANES[box.slices])


def test_the_slices_of_isbi_2012_are_the_same_as_a_stack(tmp_path, real_data):
    files = sorted((real_data("isbi2012") / "images").glob("*.png"))
    slices = np.stack([np.asarray(Image.open(file)) for file in files])
    path = pages(tmp_path / "train-volume.tif", slices, compression="lzw")
    source = open_source(path, "image")
    assert source.grid.shape == slices.shape and source.channels == 1
    np.testing.assert_array_equal(whole(source).array[0], slices)
