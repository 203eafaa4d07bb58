"""The planned grid lies where the native one does, and windows are read as far as kernels reach."""

import numpy as np
import pytest

from pipeline.errors import GridError
from pipeline.space import (
    Grid,
    Resampling,
    Volume,
    Window,
    resample_image,
    resample_labels,
    voxel_grid,
)
from pipeline.space.grid import as_affine
from tests.space.resampled import NO_LABEL, noise, scan, to_shape

OBLIQUE = [[0.1, -0.9, 0.02, 12.5], [-0.2, 0.1, 0.88, -30.25], [2.0, 0.1, -0.11, 7.75]]


@pytest.mark.parametrize("anchor", ["center", "corner"])
def test_the_planned_grid_covers_the_same_box_of_the_world(anchor):
    grid = Grid((10, 20, 30), as_affine([*OBLIQUE, [0, 0, 0, 1]]), "millimeter", None, anchor)
    made = Resampling.to_spacing(grid, [1.0, 1.5, 0.5])
    assert made.planned.shape == (20, 12, 53)
    # A voxel reaches half a voxel past its centre.
    edge = 0.5 if anchor == "center" else 0.0
    for ends in ([0, 0, 0], [1, 1, 1], [0, 1, 0]):
        native = grid.index_to_world(np.multiply(ends, grid.shape) - edge)
        planned = made.planned.index_to_world(np.multiply(ends, made.planned.shape) - edge)
        np.testing.assert_allclose(planned, native, atol=1e-9)
    assert (made.planned.unit, made.planned.anchor) == ("millimeter", anchor)


def test_the_planned_shape_is_that_of_nnunet():
    spacing, wanted, shape = (2.5, 0.78, 0.78), (1.24, 1.0, 0.62), (41, 173, 173)
    expected = [round(i / j * k) for i, j, k in zip(spacing, wanted, shape, strict=True)]
    made = Resampling.to_spacing(scan(shape, spacing), wanted)
    assert made.planned.shape == tuple(expected)


def test_an_axis_never_vanishes():
    assert Resampling.to_spacing(scan((1, 8, 8), (1, 1, 1)), (5, 1, 1)).planned.shape == (1, 8, 8)


def test_axes_within_a_percent_of_the_spacing_stay_as_they_are():
    grid = scan((200, 200, 200), (1.005, 0.995, 1.5))
    made = Resampling.to_spacing(grid, (1, 1, 1))
    assert made.planned.shape == (200, 200, 300)
    assert not made.is_identity
    same = Resampling.to_spacing(grid, (1, 1, 1.505))
    assert same.is_identity and same.planned is grid


@pytest.mark.parametrize(
    ("native", "planned", "orders"),
    [
        ((1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (3, 3, 3)),
        ((5.0, 0.8, 0.7), (4.0, 1.0, 1.0), (0, 3, 3)),
        ((0.8, 0.7, 5.0), (4.0, 1.0, 1.0), (3, 3, 0)),
        ((1.0, 1.0, 1.0), (3.5, 1.0, 1.0), (0, 3, 3)),
        # Two coarse axes are a thin slab along the third, not slices.
        ((0.24, 1.25, 1.25), (0.5, 1.0, 1.0), (3, 3, 3)),
        ((10.0, 1.0), (1.0, 1.0), (3, 3)),
    ],
)
def test_the_slice_axis_alone_takes_the_nearest_slice(native, planned, orders):
    grid = scan((4,) * len(native), native)
    assert Resampling.to_spacing(grid, planned).orders == orders


def test_a_planned_voxel_holds_the_centre_of_its_native_voxel():
    made = to_shape((6, 9), (9, 6))
    for voxel in [(0, 0), (5, 8), (2, 3)]:
        centre = made.planned.world_to_index(made.native.index_to_world(voxel))
        assert np.abs(centre - made.planned_voxel(voxel)).max() <= 0.5 + 1e-9


def test_what_does_not_fit_is_refused():
    grid = scan((8, 8, 8), (1, 1, 1))
    made = Resampling.to_spacing(grid, (2, 2, 2))
    with pytest.raises(GridError, match=r"do not fit a grid of \(8, 8, 8\): give one of each"):
        Resampling.to_spacing(grid, (1, 1), (3, 3))
    with pytest.raises(GridError, match="every spacing must be a positive number"):
        Resampling.to_spacing(grid, (1, 0, 1))
    with pytest.raises(GridError, match=r"reaches outside \(4, 4, 4\): clip it"):
        made.native_window(Window((0, 0, 2), (4, 4, 3)))
    whole = Window.whole((4, 4, 4))
    with pytest.raises(GridError, match=r"is made of \(0, 0, 0\)..\(8, 8, 8\), which Resampling"):
        resample_image(Volume(noise(1, 8, 8, 7), voxel_grid((8, 8, 7))), made, whole)
    with pytest.raises(GridError, match=r"voxels of shape \(8, 8, 7\) cannot be resampled"):
        resample_labels(np.zeros((8, 8, 7), np.uint8), made, whole, NO_LABEL)
