"""Degrees as metres: against the geodesic of the ellipsoid, and on grids that have none."""

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from pipeline.io.readers.geo.lengths import metric_axes, metric_spacing, voxel_size
from pipeline.space import Grid


def north_up(latitude, side=0.001, shape=(10, 20)):
    matrix = np.array([[0.0, side, 7.0], [-side, 0.0, latitude], [0.0, 0.0, 1.0]])
    return Grid(shape, tuple(map(tuple, matrix.tolist())), "degree", CRS.from_epsg(4326).to_wkt())


@pytest.mark.parametrize("latitude", [0.0, 30.0, -60.0])
def test_a_pixel_of_degrees_is_as_large_as_on_the_ellipsoid(latitude):
    grid = north_up(latitude)
    middle = grid.index_to_world([(n - 1) / 2 for n in grid.shape])
    # An azimuthal equidistant projection about the middle is true from there outwards.
    local = CRS.from_proj4(f"+proj=aeqd +lat_0={middle[1]} +lon_0={middle[0]} +datum=WGS84")
    ends = [
        grid.index_to_world([i + (grid.shape[0] - 1) / 2, j + (grid.shape[1] - 1) / 2])
        for i, j in ((1, 0), (0, 1))
    ]
    xs, ys = transform(CRS.from_epsg(4326), local, *zip(*ends, strict=True))
    assert metric_spacing(grid) == pytest.approx(np.hypot(xs, ys), rel=1e-5)
    assert metric_axes(grid)[1] == "meter"
    assert voxel_size(grid) == pytest.approx(np.prod(np.hypot(xs, ys)), rel=1e-5)


def test_other_units_stay_and_without_one_a_voxel_is_one():
    matrix = ((0.0, 0.0, 2.0, 0.0), (0.0, 1.5, 0.0, 0.0), (3.0, 0.0, 0.0, 0.0), (0, 0, 0, 1.0))
    scan = Grid((4, 4, 4), matrix, "millimeter")
    assert metric_spacing(scan) == scan.spacing and voxel_size(scan) == pytest.approx(9.0)
    assert voxel_size(Grid((4, 4, 4), matrix, None)) == 1.0


@pytest.mark.parametrize(
    ("code", "unit"), [(3857, "meter"), (2263, "US survey foot"), (32633, "meter")]
)
def test_a_projection_that_is_not_true_is_measured_on_the_ellipsoid(code, unit):
    crs = CRS.from_epsg(code)
    place = (-74.0, 40.7) if code == 2263 else (15.0, 60.0)
    (x,), (y,) = transform(CRS.from_epsg(4326), crs, [place[0]], [place[1]])
    side = 10.0
    grid = Grid((100, 100), ((0.0, side, x), (-side, 0.0, y), (0.0, 0.0, 1.0)), unit, crs.to_wkt())
    expected = {3857: 5.0, 2263: 10 * 0.3048006, 32633: 10.0}[code]
    assert metric_spacing(grid) == pytest.approx((expected, expected), rel=0.01)
    assert metric_axes(grid)[1] == "meter"
    if code == 32633:
        assert metric_spacing(grid) == (10.0, 10.0)  # as the file says it
