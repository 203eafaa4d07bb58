"""GeoTIFF as rasterio sees it."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from pipeline.errors import CaseError
from pipeline.io.readers import difference, open_source
from pipeline.io.readers.geotiff import write_geotiff
from pipeline.space import Grid, Window, voxel_grid
from pipeline.space.grid import as_affine

BANDS = np.random.default_rng(0).integers(1, 255, (3, 30, 40), dtype=np.uint8)
PLACES = {
    "projected": ("EPSG:32633", rasterio.Affine(10, 0, 499_980.5, 0, -10, 5_300_040.25)),
    "geographic": (
        "EPSG:4326",
        rasterio.Affine(9.119e-05, 0, -59.718, 0, -8.99e-05, -9.58),
    ),
    "rotated": ("EPSG:32633", rasterio.Affine(8, 6, 5e5, 6, -8, 5e6)),
}


def whole(source):
    return source.read(Window.whole(source.grid.shape))


def transform_of(grid):
    (a_y, a_x, a_0), (b_y, b_x, b_0), _ = grid.affine
    return rasterio.Affine(a_x, a_y, a_0, b_x, b_y, b_0)


@pytest.mark.parametrize(("crs", "transform"), PLACES.values(), ids=PLACES)
def test_every_pixel_lies_where_rasterio_puts_it(tmp_path, write_scene, crs, transform):
    path = write_scene(tmp_path / "a.tif", BANDS, crs, transform)
    source = open_source(path, "image")
    volume = whole(source)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(volume.array, raster.read())
        assert transform_of(source.grid) == raster.transform
        assert rasterio.CRS.from_wkt(source.grid.crs) == raster.crs
        for row, column in [(0, 0), (29, 0), (7, 39)]:
            # A corner-anchored grid gives a pixel's centre at half indices.
            centre = source.grid.index_to_world((row + 0.5, column + 0.5))
            np.testing.assert_allclose(centre, raster.xy(row, column), rtol=1e-14)
    assert source.placed and volume.valid is None
    assert source.grid.unit == ("degree" if crs == "EPSG:4326" else "meter")


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio's own
def test_a_window_is_what_rasterio_reads_with_its_own_transform(tmp_path, write_scene):
    path = write_scene(tmp_path / "a.tif", BANDS, nodata=0)
    window = Window((5, 10), (20, 7))
    part = open_source(path, "image").read(window)
    with rasterio.open(path) as raster:
        box = rasterio.windows.Window(10, 5, 7, 20)
        np.testing.assert_array_equal(part.array, raster.read(window=box))
        assert transform_of(part.grid) == raster.window_transform(box)


def test_nodata_in_all_bands_is_missing_and_in_one_band_is_a_shadow(tmp_path, write_scene):
    bands = BANDS.copy()
    bands[:, 2:4, 5] = 0
    bands[1, 20, 20] = 0
    path = write_scene(tmp_path / "a.tif", bands, nodata=0)
    valid = whole(open_source(path, "image")).valid
    assert (~valid).sum() == 2 and not valid[2:4, 5].any()


def test_nan_in_one_band_makes_a_pixel_missing(tmp_path, write_scene):
    bands = BANDS.astype(np.float32)
    bands[0, 3, 4] = np.nan
    path = write_scene(tmp_path / "a.tif", bands, nodata=np.nan)
    valid = whole(open_source(path, "image")).valid
    assert (~valid).sum() == 1 and not valid[3, 4]


def test_alpha_is_validity_and_no_channel(tmp_path, write_scene):
    alpha = np.full((1, 30, 40), 255, np.uint8)
    alpha[0, :6] = 0
    path = write_scene(
        tmp_path / "a.tif", np.concatenate([BANDS, alpha]), photometric="RGB", alpha="YES"
    )
    with rasterio.open(path) as raster:
        assert raster.colorinterp[3] == ColorInterp.alpha
    source = open_source(path, "image")
    volume = whole(source)
    assert source.channels == 3
    np.testing.assert_array_equal(volume.array, BANDS)
    np.testing.assert_array_equal(volume.valid, alpha[0] > 0)


def test_a_tiff_without_a_place_is_a_picture(tmp_path, write_scene):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write_scene(tmp_path / "a.tif", BANDS, crs=None, transform=None)
    source = open_source(path, "image")
    assert not source.placed and source.grid == voxel_grid((30, 40))


def test_a_mask_of_several_bands_is_refused(tmp_path, write_scene):
    path = write_scene(tmp_path / "a.tif", BANDS)
    with pytest.raises(CaseError, match="has 3 bands: a mask has one"):
        open_source(path, "mask")


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_damaged_file_is_the_cases_fault(tmp_path, write_scene, keep):
    path = write_scene(tmp_path / "a.tif", BANDS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CaseError, match=r"a.tif cannot be read: it is truncated or damaged"):
        whole(open_source(path, "image"))


@pytest.mark.parametrize(("crs", "transform"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    ("dtype", "count", "nodata"),
    [
        ("uint8", 3, 0),
        ("uint8", 4, None),
        ("uint8", 1, 255),
        ("float32", 2, np.nan),
        ("int16", 13, -1),
    ],
)
def test_a_written_scene_comes_back_and_rasterio_agrees(
    tmp_path, crs, transform, dtype, count, nodata
):
    array = np.random.default_rng(0).integers(1, 99, (count, 30, 40)).astype(dtype)
    t = transform
    affine = as_affine([[t.b, t.a, t.c], [t.e, t.d, t.f], [0, 0, 1]])
    grid = Grid((30, 40), affine, None, rasterio.CRS.from_string(crs).to_wkt(), "corner")
    path = tmp_path / "a.tif"
    write_geotiff(path, array, grid, nodata)
    source = open_source(path, "image")
    assert source.channels == count and source.grid.affine == affine
    np.testing.assert_array_equal(whole(source).array, array)
    with rasterio.open(path) as raster:
        assert raster.transform == transform and raster.crs == rasterio.CRS.from_string(crs)
        assert raster.nodata == nodata or (np.isnan(raster.nodata) and np.isnan(nodata))
        np.testing.assert_array_equal(raster.read(), array)
    content = path.read_bytes()
    path.unlink()
    write_geotiff(path, array, grid, nodata)
    assert path.read_bytes() == content


def test_a_scene_without_a_place_is_written_without_one(tmp_path):
    write_geotiff(tmp_path / "a.tif", BANDS, voxel_grid((30, 40)))
    assert not open_source(tmp_path / "a.tif", "image").placed


def test_the_same_crs_in_other_words_is_the_same_and_a_neighbouring_zone_is_not():
    def grid(crs):
        return Grid((4, 4), as_affine([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), "meter", crs, "corner")

    zone = rasterio.CRS.from_epsg(32633)
    one, other = zone.to_wkt(), zone.to_wkt(version="WKT2_2019")
    assert one != other
    assert difference(grid(one), grid(other)) is None
    neighbour = rasterio.CRS.from_epsg(32634).to_wkt()
    assert "another coordinate reference system" in difference(grid(one), grid(neighbour))
