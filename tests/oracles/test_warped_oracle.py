"""Masks seen on another grid as GDAL, SciPy and SimpleITK see them there."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import rasterio
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform
from scipy.ndimage import affine_transform

from pipeline.errors import CaseError
from pipeline.io.readers.geo import warped
from pipeline.io.readers.geo.crs import to_crs
from pipeline.io.readers.geo.raster import open_source
from pipeline.io.readers.geo.warped import WarpedSource
from pipeline.space import Grid, Volume, Window, crop
from pipeline.space.grid import as_affine

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use `@` matmul:PendingDeprecationWarning"  # rasterio's own
)

UTM32 = rasterio.CRS.from_epsg(32632).to_wkt()
UTM33 = rasterio.CRS.from_epsg(32633).to_wkt()
EAST_OF_DATE_LINE = rasterio.CRS.from_epsg(32610).to_wkt()
WGS84 = rasterio.CRS.from_epsg(4326).to_wkt()


@dataclass
class Held:
    """A mask in memory."""

    volume: Volume
    sequential: bool = False
    placed: bool = True

    def __post_init__(self):
        self.grid, self.dtype = self.volume.grid, self.volume.array.dtype
        self.channels = len(self.volume.array)
        self.block = (1, *self.grid.shape[1:])
        self.starts, self.largest = [], 0

    def read(self, window):
        self.starts.append(window.start[0])
        self.largest = max(self.largest, window.size)
        return crop(self.volume, window)


def labels(shape, seed=0, channels=1, dtype=np.uint8):
    return np.random.default_rng(seed).integers(1, 200, (channels, *shape)).astype(dtype)


def scene(shape, transform, crs=UTM33):
    t = transform
    affine = as_affine([[t.b, t.a, t.c], [t.e, t.d, t.f], [0, 0, 1]])
    return Grid(shape, affine, "meter", crs, "corner")


def scan(shape, spacing=(2.0, 1.0, 1.0), turn=(0.0, 0.0, 0.0), origin=(0.0, 0.0, 0.0)):
    """Make a scan's grid, spacing by array axis, turned about x, y and z."""
    matrix = np.eye(4)
    for axis, angle in enumerate(turn):
        i, j = [k for k in range(3) if k != axis]
        rotation = np.eye(4)
        rotation[i, i] = rotation[j, j] = np.cos(angle)
        rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ rotation
    matrix[:3, :3] = matrix[:3, 2::-1] * spacing
    matrix[:3, 3] = origin
    return Grid(shape, as_affine(matrix), "millimeter")


def transform_of(grid):
    (a_y, a_x, a_0), (b_y, b_x, b_0), _ = grid.affine
    return rasterio.Affine(a_x, a_y, a_0, b_x, b_y, b_0)


def by_gdal(volume, grid):
    """Give labels and validity on a grid by GDAL's warper with its exact transformer."""
    height, width = volume.grid.shape
    shape = {"count": 2, "height": height, "width": width, "dtype": "int32"}
    place = {"crs": volume.grid.crs, "transform": transform_of(volume.grid)}
    there = {"crs": grid.crs, "transform": transform_of(grid)}
    size = {"height": grid.shape[0], "width": grid.shape[1]}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **shape, **place) as raster:
            raster.write(volume.array[0].astype(np.int32), 1)
            told = np.ones(volume.grid.shape) if volume.valid is None else volume.valid
            raster.write(told.astype(np.int32), 2)
        # reproject() itself may be an eighth of a pixel off.
        with memory.open() as raster, WarpedVRT(raster, tolerance=1e-6, **there, **size) as seen:
            pixels, inside = seen.read()
    return pixels, inside > 0


def by_itk(volume, grid):
    def image(array, where):
        made = sitk.GetImageFromArray(array)
        columns = where.matrix[:3, 2::-1]
        lengths = np.linalg.norm(columns, axis=0)
        made.SetSpacing(lengths.tolist())
        made.SetDirection((columns / lengths).ravel().tolist())
        made.SetOrigin(where.matrix[:3, 3].tolist())
        return made

    there = sitk.Resample(
        image(volume.array[0].astype(np.int32), volume.grid),
        image(np.zeros(grid.shape, np.int32), grid),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        -1.0,
    )
    return sitk.GetArrayFromImage(there)


def whole(source):
    return source.read(Window.whole(source.grid.shape))


def assert_as_gdal(held, grid):
    seen = whole(WarpedSource(held, grid))
    expected, inside = by_gdal(held.volume, grid)
    np.testing.assert_array_equal(seen.valid, inside)
    np.testing.assert_array_equal(seen.array[0][inside], expected[inside])
    return seen


NEAR = rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)
GRIDS = {
    "finer": scene((400, 300), rasterio.Affine(2.5, 0, 500_100, 0, -2.5, 5_299_900)),
    "coarser": scene((40, 30), rasterio.Affine(37, 0, 499_980, 0, -37, 5_300_020)),
    "shifted": scene((90, 110), rasterio.Affine(10, 0, 500_123.4, 0, -10, 5_299_876.6)),
    "rotated": scene((120, 130), rasterio.Affine(6, 4, 500_200, 4, -6, 5_299_800)),
    "south-up": scene((90, 100), rasterio.Affine(11, 0, 500_003, 0, 11, 5_299_007)),
    "elsewhere": scene((30, 30), rasterio.Affine(10, 0, 700_000, 0, -10, 5_300_000)),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_scene_in_the_same_system_is_as_gdal_warps_it(grid):
    shape = (100, 120)
    told = np.random.default_rng(1).random(shape) > 0.1
    held = Held(Volume(labels(shape), scene(shape, NEAR), told))
    assert_as_gdal(held, grid)


@pytest.mark.parametrize("crs", [WGS84, UTM32], ids=["geographic", "next zone"])
def test_a_scene_in_another_system_is_as_gdal_warps_it(crs):
    shape = (300, 280)
    held = Held(Volume(labels(shape), scene(shape, NEAR)))
    corners = (500_000, 5_297_000, 502_800, 5_300_000)
    systems = rasterio.CRS.from_wkt(UTM33), rasterio.CRS.from_wkt(crs)
    transform, width, height = calculate_default_transform(*systems, 280, 300, *corners)
    seen = assert_as_gdal(held, scene((height, width), transform, crs))
    assert seen.valid.mean() > 0.5


def test_a_world_map_ends_where_a_projection_does():
    shape = (180, 360)
    world = rasterio.Affine(1, 0, -180, 0, -1, 90)
    held = Held(Volume(labels(shape), scene(shape, world, WGS84)))
    polar = rasterio.CRS.from_epsg(3413).to_wkt()
    across = rasterio.Affine(50_000, 0, -5e6, 0, -50_000, 5e6)
    assert_as_gdal(held, scene((200, 200), across, polar))
    mercator = rasterio.CRS.from_epsg(3857).to_wkt()
    held = Held(
        Volume(
            labels((60, 60)), scene((60, 60), rasterio.Affine(1e4, 0, 0, 0, -1e4, 6e5), mercator)
        )
    )
    # Its first row of centres is beyond the pole, where nothing is.
    over = scene((181, 20), rasterio.Affine(1, 0, -5, 0, -1, 91), WGS84)
    seen = whole(WarpedSource(held, over))
    assert seen.valid.any() and not seen.valid[:2].any()


def test_a_small_mask_on_a_map_of_the_world_is_found():
    held = Held(
        Volume(
            labels((300, 280)), scene((300, 280), rasterio.Affine(1000, 0, 4e5, 0, -1000, 5.3e6))
        )
    )
    world = scene((900, 1800), rasterio.Affine(0.2, 0, -180, 0, -0.2, 90), WGS84)
    seen = assert_as_gdal(held, world)
    assert 120 < seen.valid.sum() < 400


def test_a_map_that_counts_its_degrees_to_360_has_the_mask_too():
    grid = scene((300, 280), rasterio.Affine(1000, 0, 4e5, 0, -1000, 5.3e6), EAST_OF_DATE_LINE)
    held = Held(Volume(labels((300, 280)), grid))
    around = rasterio.Affine(0.5, 0, 0, 0, -0.5, 90)
    world = replace(scene((360, 720), around, WGS84), unit="degree")
    assert 20 < whole(WarpedSource(held, world)).valid.sum() < 60


@cache
def seen_whole(crs):
    """Give a mask on a finer grid in a system, and all of it."""
    held = Held(Volume(labels((60, 70)), scene((60, 70), NEAR)))
    west, north = to_crs([(500_000, 5_300_000)], UTM33, crs)[0]
    place = rasterio.Affine(2.5, 0, west, 0, -2.5, north)
    source = WarpedSource(held, scene((300, 280), place, crs))
    return source, whole(source)


@pytest.mark.parametrize("crs", [UTM33, UTM32], ids=["same system", "other system"])
@given(data=st.data())
def test_a_window_of_a_scene_is_a_cut_of_the_whole(crs, data):
    source, full = seen_whole(crs)
    assert full.valid.any() and not full.valid.all()
    starts = [data.draw(st.integers(0, n - 1)) for n in source.grid.shape]
    sizes = [data.draw(st.integers(1, n - a)) for n, a in zip(full.grid.shape, starts, strict=True)]
    window = Window(tuple(starts), tuple(sizes))
    part = source.read(window)
    np.testing.assert_array_equal(part.array, full.array[(slice(None), *window.slices)])
    np.testing.assert_array_equal(part.valid, full.valid[window.slices])
    assert part.grid == source.grid.cropped(window)


SCANS = {
    "finer": scan((70, 66, 80), (1.1, 0.7, 0.8), origin=(-3.3, 2.2, 1.1)),
    "turned": scan((40, 50, 60), (2.0, 1.3, 1.1), (0.3, -0.2, 0.5), (5.0, -8.0, 3.0)),
    "mirrored": scan((30, 50, 40), (-2.1, 1.0, -1.0), origin=(40.1, 1.1, 60.3)),
    "apart": scan((9, 9, 9), origin=(500.0, 0.0, 0.0)),
}


@pytest.mark.parametrize("grid", SCANS.values(), ids=SCANS)
def test_a_scan_is_as_simpleitk_and_scipy_resample_it(grid):
    shape = (33, 52, 47)
    held = Held(Volume(labels(shape), scan(shape, (2.0, 1.0, 1.2), (0.1, 0.2, 0.0))))
    seen = whole(WarpedSource(held, grid))
    expected = by_itk(held.volume, grid)
    np.testing.assert_array_equal(seen.valid, expected >= 0)
    np.testing.assert_array_equal(seen.array[0][seen.valid], expected[expected >= 0])
    into = np.linalg.inv(held.grid.matrix) @ grid.matrix
    there = affine_transform(held.volume.array[0], into, output_shape=grid.shape, order=0)
    # SciPy ends at the outermost centres, ITK and ours at the voxels' borders.
    inner = there > 0
    np.testing.assert_array_equal(seen.array[0][inner], there[inner])


def test_a_centre_on_a_border_belongs_to_the_upper_voxel():
    held = Held(Volume(labels((20, 20)), scene((20, 20), rasterio.Affine(0.3, 0, 0.1, 0, -0.3, 9))))
    moved = rasterio.Affine(0.3, 0, 0.1 + 0.15, 0, -0.3, 9 - 0.15)
    seen = whole(WarpedSource(held, scene((19, 19), moved)))
    np.testing.assert_array_equal(seen.array, held.volume.array[:, 1:, 1:])


def test_the_same_grid_gives_the_same_mask():
    grid = scan((70, 20, 90), turn=(0.4, 0.1, 0.2))
    held = Held(Volume(labels(grid.shape, channels=2, dtype=np.int32), grid))
    source = WarpedSource(held, grid)
    seen = whole(source)
    np.testing.assert_array_equal(seen.array, held.volume.array)
    assert seen.valid.all() and source.placed and not source.sequential
    assert source.block == (64, 20, 64) and source.dtype == np.int32


def test_a_much_finer_mask_is_read_in_pieces(monkeypatch):
    monkeypatch.setattr(warped, "READ_VOXELS", 5000)
    held = Held(Volume(labels((600, 600)), scene((600, 600), rasterio.Affine(1, 0, 0, 0, -1, 600))))
    assert_as_gdal(held, scene((40, 40), rasterio.Affine(15, 0, 1, 0, -15, 601)))
    assert 0 < held.largest <= 5000


@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_is_read_once_in_order(monkeypatch, channels):
    monkeypatch.setattr(warped, "SLAB_BYTES", 5000)
    shape = (60, 30, 40)
    told = np.random.default_rng(2).random(shape) > 0.2
    volume = Volume(labels(shape, channels=channels, dtype=np.uint16), scan(shape), told)
    stream, free = Held(volume, sequential=True), Held(volume)
    grid = scan((130, 40, 50), (0.9, 0.9, 0.9), (0.2, 0.1, 0.0), (1.0, 2.0, 3.0))
    source = WarpedSource(stream, grid)
    windows = [Window((z, 0, 0), (10, 40, 50)) for z in (120, 0, 60, 30)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(source.read, windows))
    for window, part in zip(windows, parts, strict=True):
        expected = WarpedSource(free, grid).read(window)
        np.testing.assert_array_equal(part.array, expected.array)
        np.testing.assert_array_equal(part.valid, expected.valid)
    assert stream.starts == sorted(set(stream.starts)) and len(stream.starts) > 10


def test_worlds_with_nothing_in_common_are_refused():
    flat = Held(Volume(labels((9, 9)), scene((9, 9), NEAR)))
    with pytest.raises(CaseError, match="its mask has 2 axes, its image 3"):
        WarpedSource(flat, scan((9, 9, 9)))
    with pytest.raises(CaseError, match="its image has no coordinate reference system"):
        WarpedSource(flat, scene((9, 9), NEAR, None))
    with pytest.raises(CaseError, match="its mask has no coordinate reference system"):
        WarpedSource(Held(Volume(labels((9, 9)), scene((9, 9), NEAR, None))), flat.grid)


def test_a_real_label_is_seen_on_a_metric_grid_as_gdal_sees_it(real_data):
    (path,) = real_data("sen1floods11").glob("*_LabelHand.tif")
    mask = open_source(path, "mask")
    zone = rasterio.CRS.from_epsg(32630)
    with rasterio.open(path) as raster:
        size = raster.width, raster.height
        place, width, height = calculate_default_transform(raster.crs, zone, *size, *raster.bounds)
    held = Held(whole(mask))
    seen = assert_as_gdal(held, scene((height, width), place, zone.to_wkt()))
    again = whole(WarpedSource(mask, seen.grid))
    np.testing.assert_array_equal(again.array, seen.array)
