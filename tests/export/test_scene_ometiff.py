"""An OME-TIFF is what tifffile and its Zarr view read: labels, size of a pixel, pyramid."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr

from pipeline.export.ometiff import write
from pipeline.io.mask_store import MaskStore
from pipeline.space import Grid, Window, voxel_grid
from pipeline.space.grid import as_affine
from tests.export.scenes import NAMES, blobs, export_of, scene_grid, write_mask

SCHEMA = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def scan(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> Grid:
    """A grid of millimetres, (z, y, x)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.fliplr(np.diag(spacing[::-1]))
    return Grid(shape, as_affine(matrix), "millimeter")


def test_a_picture_has_its_labels_and_the_stores_own_pyramid(tmp_path: Path) -> None:
    labels = blobs((1300, 1100))
    found = export_of(write_mask(tmp_path / "a.zarr", labels), tmp_path / "out" / "a.ome.tif")
    write(found)
    mask = MaskStore(found.mask.path)
    with tifffile.TiffFile(found.target) as file:
        (series,) = file.series
        assert file.is_ome and (series.axes, series.dtype) == ("YX", np.uint8)
        assert [level.shape for level in series.levels] == [(1300, 1100), (650, 550), (325, 275)]
        for number, level in enumerate(series.levels):
            assert level.keyframe.tile == (512, 512)
            window = Window.whole(level.shape)
            assert (level.asarray() == mask.read(window, number)).all()
        view = zarr.open(series.aszarr(), mode="r")
        assert (view["0"][100:700, 900:] == labels[100:700, 900:]).all()


@pytest.mark.parametrize(
    ("shape", "spacing", "levels"),
    [
        ((70, 90, 110), (2.0, 1.0, 1.0), [(70, 90, 110), (70, 45, 55)]),
        ((70, 90, 110), (1.0, 1.0, 1.0), [(70, 90, 110)]),
        ((4, 600, 1030), (9.0, 0.5, 0.5), None),
    ],
)
def test_a_volume_has_the_size_of_its_voxels_and_levels_coarser_in_the_plane(
    tmp_path: Path,
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
    levels: list[tuple[int, ...]] | None,
) -> None:
    labels = blobs(shape)
    mask = write_mask(tmp_path / "a.zarr", labels, scan(shape, spacing))
    found = export_of(mask, tmp_path / "out" / "a.ome.tif")
    write(found)
    with tifffile.TiffFile(found.target) as file:
        (series,) = file.series
        assert series.axes == "ZYX" and (series.asarray() == labels).all()
        assert all(level.shape[0] == shape[0] for level in series.levels)
        assert levels is None or [level.shape for level in series.levels] == levels
        pixels = next(ElementTree.fromstring(file.ome_metadata).iter(f"{SCHEMA}Pixels"))
    told = [float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in "ZYX"]
    assert told == list(spacing) and pixels.attrib["PhysicalSizeZUnit"] == "mm"


def test_names_and_provenance_stand_in_valid_ome_xml(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "a.zarr", blobs((60, 70)), scene_grid((60, 70)))
    found = export_of(mask, tmp_path / "out" / "a.ome.tif")
    write(found)
    root = ElementTree.fromstring(tifffile.tiffcomment(found.target))
    told = {m.attrib["K"]: m.text for m in root.iter(f"{SCHEMA}M")}
    assert [told[str(label)] for label in range(4)] == list(NAMES)
    assert (told["SEGFLOW_CASE"], told["SEGFLOW_RUN"]) == ("a", "amazon")
    pixels = next(root.iter(f"{SCHEMA}Pixels"))
    assert (pixels.attrib["PhysicalSizeX"], pixels.attrib["PhysicalSizeXUnit"]) == ("10.0", "m")


def test_voxels_without_data_are_background_or_keep_their_label(tmp_path: Path) -> None:
    labels = blobs((60, 70))
    labels[:9] = 255
    mask = write_mask(tmp_path / "a.zarr", labels)
    for nodata, expected in (("background", np.where(labels == 255, 0, labels)), ("keep", labels)):
        found = export_of(mask, tmp_path / "out" / f"{nodata}.ome.tif", nodata=nodata)
        write(found)
        assert (tifffile.imread(found.target) == expected).all()


def test_numbers_of_a_regression_stay_float(tmp_path: Path) -> None:
    heights = np.random.default_rng(0).normal(20, 5, (70, 80)).astype(np.float32)
    heights[3] = np.nan
    grid = voxel_grid(heights.shape)
    mask = write_mask(tmp_path / "a.zarr", heights, grid, target="height")
    found = export_of(mask, tmp_path / "out" / "a.ome.tif")
    write(found)
    assert np.array_equal(tifffile.imread(found.target), heights, equal_nan=True)


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "a.zarr", blobs((60, 70)))
    one, other = (export_of(mask, tmp_path / name / "a.ome.tif") for name in ("one", "other"))
    write(one)
    write(other)
    assert one.target.read_bytes() == other.target.read_bytes()
