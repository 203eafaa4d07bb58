"""GeoTIFF, VRT and JPEG 2000 as rasterio sees them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.merge import merge
from rasterio.shutil import copy

from pipeline.errors import CaseError
from pipeline.io.readers import difference, open_source
from pipeline.io.readers.geo.geotiff import write_geotiff
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


def save(path, bands, driver="GTiff", **options):
    """Write bands with any of GDAL's drivers."""
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    place = dict(zip(("crs", "transform"), PLACES["projected"], strict=True))
    with rasterio.open(path, "w", driver=driver, **shape, **place, **options) as raster:
        raster.write(bands)
    return path


def windows(shape, count, seed=0):
    """Give random windows of an array of this shape."""
    random = np.random.default_rng(seed)
    corners = [np.sort(random.integers(0, n + 1, (count, 2)), axis=1) for n in shape]
    spans = zip(*(c.tolist() for c in corners), strict=True)
    return [Window.between(*zip(*span, strict=True)) for span in spans]


def assert_windows_are_cuts_of_the_whole(source, count=60):
    full = whole(source)
    wanted = [w for w in windows(source.grid.shape, count) if w.size]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(source.read, wanted))
    for window, part in zip(wanted, parts, strict=True):
        np.testing.assert_array_equal(part.array, full.array[(slice(None), *window.slices)])
        assert part.grid == source.grid.cropped(window)
        if full.valid is not None:
            np.testing.assert_array_equal(part.valid, full.valid[window.slices])


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


@pytest.mark.parametrize("inside", [True, False], ids=["internal", "external"])
@pytest.mark.parametrize("nodata", [None, 7])
def test_a_mask_beside_the_bands_is_validity(tmp_path, write_scene, inside, nodata):
    bands = BANDS.copy()
    bands[:, 20] = 7
    drawn = np.ones((30, 40), bool)
    drawn[:6] = False
    path = write_scene(tmp_path / "a.tif", bands, nodata=nodata)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as raster:
        raster.write_mask(drawn)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.dataset_mask() > 0, drawn)
    if nodata is not None:
        drawn[20] = False
    np.testing.assert_array_equal(whole(open_source(path, "image")).valid, drawn)


def test_a_pixel_is_valid_where_the_mask_of_any_band_shows_it(tmp_path, write_scene):
    masks = np.random.default_rng(1).integers(0, 2, (2, 30, 40), dtype=np.uint8) * 255
    write_scene(tmp_path / "bands.tif", BANDS[:2])
    write_scene(tmp_path / "masks.tif", masks)
    bands = "".join(
        f"<VRTRasterBand dataType='Byte' band='{i}'>{source('bands.tif', i)}"
        f"<MaskBand><VRTRasterBand dataType='Byte'>{source('masks.tif', i)}"
        "</VRTRasterBand></MaskBand></VRTRasterBand>"
        for i in (1, 2)
    )
    path = tmp_path / "a.vrt"
    path.write_text(f"<VRTDataset rasterXSize='40' rasterYSize='30'>{bands}</VRTDataset>")
    np.testing.assert_array_equal(whole(open_source(path, "image")).valid, (masks > 0).any(axis=0))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read_masks(), masks)


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


def test_a_scene_that_has_a_transform_and_no_system_keeps_it(tmp_path):
    grid = Grid((30, 40), as_affine([[0, 2, 7], [-2, 0, 9], [0, 0, 1]]), None, None, "corner")
    write_geotiff(tmp_path / "a.tif", BANDS, grid)
    source = open_source(tmp_path / "a.tif", "image")
    assert source.placed and source.grid == grid


def test_the_same_crs_in_other_words_is_the_same_and_a_neighbouring_zone_is_not():
    def grid(crs):
        return Grid((4, 4), as_affine([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), "meter", crs, "corner")

    zone = rasterio.CRS.from_epsg(32633)
    one, other = zone.to_wkt(), zone.to_wkt(version="WKT2_2019")
    assert one != other
    assert difference(grid(one), grid(other)) is None
    neighbour = rasterio.CRS.from_epsg(32634).to_wkt()
    assert "another coordinate reference system" in difference(grid(one), grid(neighbour))


def source(name, band, x=0, shape=(30, 40)):
    """Give a VRT's words for a band of a file, put at a column."""
    size = f"xSize='{shape[1]}' ySize='{shape[0]}'"
    return (
        f"<SimpleSource><SourceFilename relativeToVRT='1'>{name}</SourceFilename>"
        f"<SourceBand>{band}</SourceBand><SrcRect xOff='0' yOff='0' {size}/>"
        f"<DstRect xOff='{x}' yOff='0' {size}/></SimpleSource>"
    )


OPTIONS = {
    "strips": {"blockysize": 7},
    "tiles by band": {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band"},
    "lzw": {"compress": "lzw", "predictor": 2, "tiled": True, "blockxsize": 32, "blockysize": 16},
    "zstd bigtiff": {"compress": "zstd", "BIGTIFF": "YES"},
    "one strip": {"compress": "deflate", "blockysize": 30},
    "big-endian": {"ENDIANNESS": "BIG"},
    "cog": {"driver": "COG", "blocksize": 128, "overviews": "NONE"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "float32", "float64"])
def test_every_layout_and_type_reads_as_in_rasterio(tmp_path, options, dtype):
    options = {k: v for k, v in options.items() if k != "predictor" or "float" not in dtype}
    bands = np.random.default_rng(2).integers(-99, 99, (3, 30, 40)).astype(dtype)
    path = save(tmp_path / "a.tif", bands, nodata=3, **options)
    opened = open_source(path, "image")
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(whole(opened).array, raster.read())
        assert transform_of(opened.grid) == raster.transform
    assert opened.dtype == bands.dtype == whole(opened).array.dtype
    assert_windows_are_cuts_of_the_whole(opened)


def test_overviews_of_a_cog_are_not_read(tmp_path):
    bands = np.random.default_rng(3).integers(0, 255, (2, 700, 900), dtype=np.uint8)
    path = save(tmp_path / "a.tif", bands, "COG", blocksize=128)
    with rasterio.open(path) as raster:
        assert raster.overviews(1)
    opened = open_source(path, "image")
    assert opened.block == (128, 128)
    np.testing.assert_array_equal(whole(opened).array, bands)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_lossless_jpeg_2000_reads_as_in_rasterio(tmp_path, dtype):
    bands = np.random.default_rng(4).integers(0, 99, (3, 30, 40)).astype(dtype)
    path = save(tmp_path / "a.jp2", bands, "JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    opened = open_source(path, "image")
    np.testing.assert_array_equal(whole(opened).array, bands)
    with rasterio.open(path) as raster:
        assert transform_of(opened.grid) == raster.transform
        assert rasterio.CRS.from_wkt(opened.grid.crs) == raster.crs
    assert_windows_are_cuts_of_the_whole(opened)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CaseError, match=r"a.jp2 cannot be read: it is truncated or damaged"):
        whole(open_source(path, "image"))


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio's own
def test_a_vrt_of_two_files_is_their_mosaic(tmp_path, write_scene):
    crs, east = PLACES["projected"]
    west = east @ rasterio.Affine.translation(-40, 0)
    (tmp_path / "tiles").mkdir()
    write_scene(tmp_path / "tiles" / "east.tif", BANDS, crs, east, nodata=0)
    write_scene(tmp_path / "tiles" / "west.tif", BANDS[:, ::-1], crs, west, nodata=0)
    bands = "".join(
        f"<VRTRasterBand dataType='Byte' band='{i}'><NoDataValue>0</NoDataValue>"
        f"{source('tiles/west.tif', i)}{source('tiles/east.tif', i, 40)}</VRTRasterBand>"
        for i in (1, 2, 3)
    )
    place = ", ".join(repr(v) for v in west.to_gdal())
    path = tmp_path / "a.vrt"
    path.write_text(
        f"<VRTDataset rasterXSize='80' rasterYSize='30'><SRS>{crs}</SRS>"
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    opened = open_source(path, "image")
    expected, transform = merge(sorted((tmp_path / "tiles").iterdir()))
    np.testing.assert_array_equal(whole(opened).array, expected)
    assert transform_of(opened.grid) == transform
    assert opened.block == (30, 40) and opened.placed
    assert_windows_are_cuts_of_the_whole(opened)


def test_bands_of_several_types_and_nodata_are_promoted_and_judged_each(tmp_path, write_scene):
    first = BANDS[:1].astype(np.uint16) * 200
    second = BANDS[1:2].astype(np.int16) - 200
    first[0, :9], second[0, 3:] = 65000, -300
    write_scene(tmp_path / "1.tif", first)
    write_scene(tmp_path / "2.tif", second)
    bands = "".join(
        f"<VRTRasterBand dataType='{kind}' band='{i}'><NoDataValue>{nodata}</NoDataValue>"
        f"{source(f'{i}.tif', 1)}</VRTRasterBand>"
        for i, kind, nodata in ((1, "UInt16", 65000), (2, "Int16", -300))
    )
    path = tmp_path / "a.vrt"
    path.write_text(f"<VRTDataset rasterXSize='40' rasterYSize='30'>{bands}</VRTDataset>")
    opened = open_source(path, "image")
    volume = whole(opened)
    assert opened.dtype == volume.array.dtype == np.int32
    np.testing.assert_array_equal(volume.array, np.concatenate([first, second], dtype=np.int32))
    np.testing.assert_array_equal(np.flatnonzero(~volume.valid.any(axis=1)), np.arange(3, 9))
    assert volume.valid[:3].all() and volume.valid[9:].all()


def test_a_vrt_within_a_vrt_is_what_gdal_makes_of_it(tmp_path, write_scene):
    (tmp_path / "b").mkdir()
    path = write_scene(tmp_path / "b" / "a.tif", BANDS)
    copy(path, tmp_path / "b" / "in & out.vrt", driver="VRT")
    copy(tmp_path / "b" / "in & out.vrt", tmp_path / "c.vrt", driver="VRT")
    for name in ("b/in & out.vrt", "c.vrt"):
        opened = open_source(tmp_path / name, "image")
        np.testing.assert_array_equal(whole(opened).array, BANDS)
        assert opened.grid == open_source(path, "image").grid


@pytest.mark.parametrize("part", ["S1Hand", "S2Hand", "LabelHand"])
def test_a_real_scene_reads_as_in_rasterio(real_data, part):
    (path,) = real_data("sen1floods11").glob(f"*_{part}.tif")
    opened = open_source(path, "mask" if part == "LabelHand" else "image")
    volume = whole(opened)
    with rasterio.open(path) as raster:
        pixels, nodata = raster.read(), raster.nodata
        assert transform_of(opened.grid) == raster.transform
    np.testing.assert_array_equal(volume.array, pixels)
    expected = {
        "S1Hand": ~np.isnan(pixels).any(axis=0),
        "S2Hand": ~(pixels == nodata).all(axis=0),
    }.get(part)
    assert volume.valid is None if expected is None else (volume.valid == expected).all()
    assert_windows_are_cuts_of_the_whole(opened, 20)


def test_real_tiles_read_as_in_rasterio(real_data):
    for path in sorted((real_data("amazon_forest") / "images").iterdir()):
        opened = open_source(path, "image")
        with rasterio.open(path) as raster:
            np.testing.assert_array_equal(whole(opened).array, raster.read())
            assert transform_of(opened.grid) == raster.transform
            assert opened.block == raster.block_shapes[0]
        assert_windows_are_cuts_of_the_whole(opened, 5)


# rasterio's log stumbles over bytes that are no text.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", [".tif", ".jp2"])
def test_flipped_bytes_are_the_cases_fault_or_harmless(tmp_path, suffix):
    driver = {".tif": "GTiff", ".jp2": "JP2OpenJPEG"}[suffix]
    path = save(tmp_path / f"a{suffix}", BANDS, driver)
    content, random = path.read_bytes(), np.random.default_rng(5)
    refused = 0
    for _ in range(300):
        flipped = bytearray(content)
        for place in random.integers(0, 600, 3):
            flipped[place] = random.integers(256)
        path.write_bytes(flipped)
        try:
            opened = open_source(path, "image")
            opened.read(Window((0, 0), (1, 1)))
        except CaseError:
            refused += 1
    assert refused > 30
