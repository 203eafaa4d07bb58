"""A Cloud Optimized GeoTIFF lies where its mask lies, and holds what the mask holds."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rio_cogeo import cog_validate

from pipeline.errors import CaseError
from pipeline.export import ExportSettings, export
from pipeline.export.geotiff import write
from pipeline.io.ngff import COLORS
from pipeline.space import Grid, voxel_grid
from pipeline.space.grid import as_affine
from tests.export.scenes import NAMES, blobs, export_of, scene_grid, write_mask

DEGREE_STEP = 8.983152841195215e-05


def holed(shape: tuple[int, int]) -> np.ndarray:
    """Labels with a corner of no data."""
    labels = blobs(shape)
    labels[: shape[0] // 9, : shape[1] // 7] = 255
    return labels


GRIDS = {
    "metres": scene_grid((1100, 1300)),
    "degrees": scene_grid(
        (1100, 1300), "EPSG:4326", (-60.1234567891, -3.7), (DEGREE_STEP, -DEGREE_STEP)
    ),
    "south up": scene_grid((1100, 1300), step=(10.0, 10.0)),
    "turned": Grid(
        (1100, 1300),
        as_affine([[3.1, 9.5, 499_980.3], [-9.5, 3.1, 5_300_040.7], [0, 0, 1]]),
        "meter",
        CRS.from_epsg(32633).to_wkt(),
        "corner",
    ),
    "a system of its own": scene_grid((1100, 1300), "+proj=laea +lat_0=10 +lon_0=20 +units=m"),
}


@pytest.mark.parametrize("name", GRIDS)
def test_rasterio_reads_place_and_labels_to_the_last_digit(tmp_path: Path, name: str) -> None:
    grid, labels = GRIDS[name], holed((1100, 1300))
    found = export_of(write_mask(tmp_path / "a.zarr", labels, grid), tmp_path / "out" / "a.tif")
    write(found)
    assert cog_validate(found.target, strict=True) == (True, [], [])
    with rasterio.open(found.target) as raster:
        assert raster.crs == CRS.from_wkt(grid.crs)
        (d, e, f), (a, b, c) = ((r[1], r[0], r[2]) for r in grid.affine[1::-1])
        assert tuple(raster.transform)[:6] == (a, b, c, d, e, f)
        assert (raster.read(1) == labels).all()
        assert (raster.nodata, raster.dtypes) == (255, ("uint8",))
        assert raster.overviews(1) == [2, 4]


def test_overviews_hold_labels_that_are_there_and_no_means(tmp_path: Path) -> None:
    labels = np.where(np.indices((1200, 1200)).sum(axis=0) % 9 < 5, 1, 3).astype(np.uint8)
    mask = write_mask(tmp_path / "a.zarr", labels, scene_grid(labels.shape))
    found = export_of(mask, tmp_path / "out" / "a.tif")
    write(found)
    with rasterio.open(found.target, overview_level=0) as raster:
        assert raster.shape == (600, 600)
        assert set(np.unique(raster.read(1))) == {1, 3}


def test_colours_names_and_provenance_are_told_and_no_source(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "a.zarr", holed((60, 70)), scene_grid((60, 70)))
    found = export_of(mask, tmp_path / "out" / "a.tif")
    write(found)
    with rasterio.open(found.target) as raster:
        assert raster.colorinterp == (ColorInterp.palette,)
        table, tags = raster.colormap(1), raster.tags()
    assert [table[label][:3] for label in (1, 2, 3)] == list(COLORS[:3])
    assert [tags[f"CLASS_{label}"] for label in range(4)] == list(NAMES)
    assert (tags["SEGFLOW_CASE"], tags["SEGFLOW_RUN"]) == ("a", "amazon")
    assert tags["SEGFLOW_MODEL"] == "unet-0123456789"
    assert tags["TIFFTAG_SOFTWARE"] == "segflow 1.0"
    assert "a.tif" not in str(tags)
    told = ElementTree.parse(f"{found.target}.aux.xml").getroot()
    assert [c.text for c in told.iter("Category")] == list(NAMES)


def test_more_classes_than_a_byte_holds_have_65535_for_no_data(tmp_path: Path) -> None:
    labels = np.arange(600 * 600).reshape(600, 600) % 300
    labels[0, 0] = 65535
    names = tuple(f"class {n}" for n in range(300))
    mask = write_mask(tmp_path / "a.zarr", labels, scene_grid(labels.shape), names=names)
    found = export_of(mask, tmp_path / "out" / "a.tif")
    write(found)
    assert cog_validate(found.target, strict=True)[0]
    with rasterio.open(found.target) as raster:
        assert (raster.read(1) == labels).all()
        assert (raster.nodata, raster.dtypes) == (65535, ("uint16",))
        assert raster.colormap(1)[9][:3] == COLORS[8 % len(COLORS)]


def test_numbers_of_a_regression_keep_their_nan(tmp_path: Path) -> None:
    heights = np.random.default_rng(0).normal(20, 5, (700, 800)).astype(np.float32)
    heights[:90, :80] = np.nan
    mask = write_mask(tmp_path / "a.zarr", heights, scene_grid(heights.shape), target="height")
    found = export_of(mask, tmp_path / "out" / "a.tif")
    write(found)
    assert cog_validate(found.target, strict=True)[0]
    with rasterio.open(found.target) as raster:
        assert np.array_equal(raster.read(1), heights, equal_nan=True)
        assert np.isnan(raster.nodata) and raster.descriptions == ("height",)
    assert not Path(f"{found.target}.aux.xml").exists()


def test_a_picture_may_be_called_anything_and_nothing_is_said_of_its_place(tmp_path: Path) -> None:
    labels = holed((60, 70))
    write_mask(tmp_path / "plain.zarr", labels)
    done = export(tmp_path / "plain.zarr", tmp_path / "plain.tif", ExportSettings("cog"))
    assert [path.name for path in done.files] == ["plain.tif", "plain.tif.aux.xml"]
    assert (tifffile.imread(tmp_path / "plain.tif") == labels).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_picture_becomes_a_tiff_without_a_place(tmp_path: Path) -> None:
    labels = holed((600, 70))
    found = export_of(write_mask(tmp_path / "a.zarr", labels), tmp_path / "out" / "a.tif")
    write(found)
    with rasterio.open(found.target) as raster:
        assert raster.crs is None and raster.transform == rasterio.Affine.identity()
        assert (raster.read(1) == labels).all()


def test_a_scene_whose_indices_mean_centres_lies_half_a_pixel_further(tmp_path: Path) -> None:
    corner = scene_grid((60, 70))
    matrix = corner.matrix
    matrix[:2, 2] += (5.0, -5.0)
    centre = Grid(corner.shape, as_affine(matrix), corner.unit, corner.crs, "center")
    mask = write_mask(tmp_path / "a.zarr", blobs((60, 70)), centre)
    found = export_of(mask, tmp_path / "out" / "a.tif")
    write(found)
    with rasterio.open(found.target) as raster:
        assert tuple(raster.transform)[:6] == (10.0, 0.0, 499_980.3, 0.0, -10.0, 5_300_040.7)


def test_a_volume_is_refused_with_what_holds_it(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "a.zarr", blobs((5, 6, 7)), voxel_grid((5, 6, 7)))
    with pytest.raises(
        CaseError, match=r"it is a volume of \(5, 6, 7\) voxels, and GeoTIFF holds scenes .* nifti"
    ):
        write(export_of(mask, tmp_path / "out" / "a.tif"))


def test_the_dispatcher_leaves_the_file_and_its_names_and_nothing_else(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "a.zarr", holed((60, 70)), scene_grid((60, 70)))
    (tmp_path / "out").mkdir()
    done = export(mask, tmp_path / "out" / "scene.tif", ExportSettings("cog"))
    assert [p.name for p in done.files] == ["scene.tif", "scene.tif.aux.xml"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [p.name for p in done.files]
    assert cog_validate(done.files[0], strict=True)[0]
