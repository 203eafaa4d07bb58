"""Windows, grids and volumes refuse what makes no sense, and say why."""

import numpy as np
import pytest

from pipeline.errors import GridError
from pipeline.space import Grid, Volume, Window, aligned_windows, crop, tile_windows, voxel_grid
from pipeline.space.grid import as_affine

SCAN = as_affine(np.array([[0, 0, 2, 5], [0, 3, 0, 6], [4, 0, 0, 7], [0, 0, 0, 1]]))


def test_touching_windows_do_not_intersect():
    assert Window((0, 0), (4, 4)).intersection(Window((4, 0), (4, 4))).size == 0


def test_a_window_that_starts_outside_gives_no_slices():
    with pytest.raises(GridError, match=r"\(-1,\)..\(2,\) starts outside the array: clip it"):
        _ = Window((-1,), (3,)).slices


def test_a_window_has_as_many_starts_as_sizes_and_none_negative():
    with pytest.raises(GridError, match="number of axes and no negative size"):
        Window((0, 0), (4,))
    with pytest.raises(GridError, match="no negative size"):
        Window((0,), (-4,))


def test_a_tile_larger_than_the_array_is_refused():
    with pytest.raises(GridError, match=r"each axis needs 0 <= overlap < tile <= shape"):
        tile_windows((4, 4), (5, 4), (0, 0))
    with pytest.raises(GridError, match="each axis needs"):
        tile_windows((4,), (2,), (2,))


def test_windows_of_no_size_are_refused():
    with pytest.raises(GridError, match="every size must be at least 1"):
        aligned_windows((4,), (0,))


def test_a_grid_knows_its_spacing_in_array_order():
    grid = Grid((10, 11, 12), SCAN, "millimeter")
    assert grid.spacing == (4, 3, 2)
    assert grid.rectilinear and grid.axes == ("z", "y", "x")
    np.testing.assert_array_equal(grid.index_to_world((1, 1, 1)), (7, 9, 11))


def test_a_picture_without_a_place_has_indices_for_coordinates():
    np.testing.assert_array_equal(voxel_grid((5, 6)).index_to_world((3, 4)), (4, 3))


@pytest.mark.parametrize("shape", [(4,), (1, 2, 3, 4)])
def test_a_grid_has_two_or_three_axes(shape):
    with pytest.raises(GridError, match="2 or 3 are supported"):
        voxel_grid(shape)


def test_an_affine_fits_the_axes():
    with pytest.raises(GridError, match=r"the affine has shape \(4, 4\): 2 axes need \(3, 3\)"):
        Grid((4, 4), SCAN)


def test_differences_between_grids_are_put_in_words():
    grid = Grid((4, 4, 4), SCAN)
    assert grid.difference(grid) is None
    assert grid.difference(grid.cropped(Window((0, 0, 0), (4, 4, 3)))) == (
        "shape (4, 4, 3) instead of (4, 4, 4)"
    )
    elsewhere = Grid((4, 4, 4), SCAN, crs="EPSG:4326")
    assert "coordinate reference system" in grid.difference(elsewhere)
    unknown = Grid((4, 4, 4), as_affine(np.full((4, 4), np.nan)))
    assert "voxels away" in grid.difference(unknown)


def test_voxels_must_fit_their_grid():
    with pytest.raises(GridError, match=r"do not fit a grid of \(4, 4\): arrays are channel-first"):
        Volume(np.zeros((4, 4)), voxel_grid((4, 4)))
    with pytest.raises(GridError, match=r"a validity mask of shape \(3, 4\) does not fit"):
        Volume(np.zeros((1, 4, 4)), voxel_grid((4, 4)), np.ones((3, 4), bool))


def test_a_crop_stays_inside():
    volume = Volume(np.zeros((1, 4, 4)), voxel_grid((4, 4)))
    with pytest.raises(GridError, match="reaches outside"):
        crop(volume, Window((0, 2), (4, 4)))
