"""MetaImage and NRRD as SimpleITK, and 3D Slicer's keys, tell them."""

import json
import re

import numpy as np
import pytest
import SimpleITK

from pipeline.errors import NothingUsableError
from pipeline.io.readers.medical.itk import open_source
from pipeline.space import Window, voxel_grid
from tests.conftest import OBLIQUE
from tests.export.scans import exported, grid_of, labels_of, scan_grid, some_points, write_mask
from tests.export.scenes import scene_grid

SHAPE = (7, 11, 9)
FORMATS = [("mha", ".mha"), ("nrrd", ".seg.nrrd"), ("nrrd", ".nrrd")]
HOSTILE = ("background", 'back\\slash\nnew := line "quoted"', "Läsion 心臓")


def header_of(path):
    """Keys of an NRRD header."""
    text = path.read_bytes().split(b"\n\n")[0].decode()
    return dict(line.split(":=", 1) for line in text.splitlines() if ":=" in line)


@pytest.mark.parametrize(("to", "suffix"), FORMATS)
def test_voxels_have_the_values_and_places_of_the_mask(tmp_path, to, suffix):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    image = SimpleITK.ReadImage(exported(mask, tmp_path / f"a{suffix}", to))
    labels = np.where(labels_of(SHAPE) == 255, 0, labels_of(SHAPE))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), labels)
    for z, y, x in some_points(SHAPE).tolist():
        place = np.array(image.TransformIndexToPhysicalPoint((x, y, z))) * (-1, -1, 1)
        np.testing.assert_allclose(grid_of(mask).index_to_world((z, y, x)), place, atol=1e-12)


@pytest.mark.parametrize(("to", "suffix"), FORMATS[:2])
def test_a_sheared_place_comes_back_to_the_last_digits(tmp_path, to, suffix):
    grid = scan_grid(SHAPE, OBLIQUE)
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE), grid)
    found = open_source(exported(mask, tmp_path / f"a{suffix}", to), "image")
    np.testing.assert_allclose(found.grid.matrix, grid.matrix, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(("to", "suffix"), FORMATS[:2])
def test_numbers_are_written_as_float32_with_nan(tmp_path, to, suffix):
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    values[0, 0] = np.nan
    mask = write_mask(tmp_path / "a.zarr", values, target="depth")
    image = SimpleITK.ReadImage(exported(mask, tmp_path / f"a{suffix}", to))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), values)


@pytest.mark.parametrize(("to", "suffix"), FORMATS[:2])
def test_many_classes_are_written_in_sixteen_bits(tmp_path, to, suffix):
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 300
    mask = write_mask(tmp_path / "a.zarr", labels, names=tuple(f"class {n}" for n in range(300)))
    image = SimpleITK.ReadImage(exported(mask, tmp_path / f"a{suffix}", to))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), labels)


@pytest.mark.parametrize(("to", "suffix"), FORMATS[:2])
def test_a_plain_picture_is_one_slice_in_voxels(tmp_path, to, suffix):
    mask = write_mask(tmp_path / "a.zarr", labels_of((6, 8)), voxel_grid((6, 8)))
    image = SimpleITK.ReadImage(exported(mask, tmp_path / f"a{suffix}", to))
    assert image.GetSize() == (8, 6, 1) and image.GetSpacing() == (1, 1, 1)
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_segflow_reads_its_own_metaimage_and_nrrd(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    for to, suffix in FORMATS:
        source = open_source(exported(mask, tmp_path / f"a{suffix}", to), "mask")
        assert source.grid.difference(grid_of(mask), 1e-9) is None
        assert source.read(Window.whole(SHAPE)).array.max() == 2


def test_a_metaimage_has_a_sidecar_with_the_names_of_labels(tmp_path):
    exported(write_mask(tmp_path / "a.zarr", labels_of(SHAPE)), tmp_path / "b.mha", "mha")
    told = json.loads((tmp_path / "b.mask.json").read_text())
    assert told["case"] == "a" and told["labels"]["liver"] == 1


def test_an_nrrd_has_the_segments_of_3d_slicer(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    keys = header_of(exported(mask, tmp_path / "a.seg.nrrd", "nrrd"))
    assert keys["Segmentation_SourceRepresentation"] == "Binary labelmap"
    assert keys["Segment0_Name"] == "liver" and keys["Segment0_LabelValue"] == "1"
    assert keys["Segment1_LabelValue"] == "2" and "Segment2_Name" not in keys
    assert keys["Segment0_Extent"] == "0 8 0 10 0 6"
    assert all(0 <= float(part) <= 1 for part in keys["Segment0_Color"].split())


def test_a_name_with_a_line_in_it_makes_no_line_of_an_nrrds_header(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE), names=HOSTILE)
    path = exported(mask, tmp_path / "a.seg.nrrd", "nrrd")
    assert header_of(path)["Segment0_Name"] == r'back\\slash\nnew := line "quoted"'
    image = SimpleITK.ReadImage(path)
    assert image.GetMetaData("Segment0_Name").startswith("back\\")
    assert image.GetMetaData("Segment1_Name") == "Läsion 心臓"


def test_numbers_of_a_regression_are_no_segments(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", np.zeros(SHAPE, np.float32), target="depth")
    keys = header_of(exported(mask, tmp_path / "a.nrrd", "nrrd"))
    assert not any(key.startswith("Segment") for key in keys)
    assert json.loads(keys["segflow"])["target"] == "depth"


@pytest.mark.parametrize(("to", "suffix"), FORMATS[:2])
def test_a_scene_is_no_scan(tmp_path, to, suffix):
    mask = write_mask(tmp_path / "a.zarr", labels_of((6, 8)), scene_grid((6, 8)))
    with pytest.raises(NothingUsableError, match=r"it is a scene .* Export it as cog"):
        exported(mask, tmp_path / f"a{suffix}", to)


def test_the_header_of_a_metaimage_tells_the_size_of_its_stream(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    content = exported(mask, tmp_path / "a.mha", "mha").read_bytes()
    start = content.index(b"LOCAL\n") + len(b"LOCAL\n")
    told = re.search(rb"CompressedDataSize = (\d+)", content)
    assert told is not None and int(told[1]) == len(content) - start
