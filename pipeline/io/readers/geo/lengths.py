"""True lengths and sizes of a grid's voxels: on Earth in metres, whatever the CRS counts in."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.io.readers.geo.crs import metres_in, to_crs, wkt_of
from pipeline.space import Grid
from pipeline.space.metric import degree_lengths

FAITHFUL = 0.01
"""How far the lengths of a projection may lie from the true ones and still be taken."""
STEP = 16
"""Voxels walked to measure one: the difference of two places must be more than their rounding."""


def metric_axes(grid: Grid) -> tuple[NDArray[np.float64], str | None]:
    """Steps along the array's axes in a unit of length.

    Of a scene in metres: those of its projection where they are true to a hundredth, as in UTM, or
    else those on the ellipsoid at the scene's middle, as of degrees, feet and Web Mercator. At
    60° latitude the ends of a scene of a hundred kilometres differ from its middle by 2 %.

    Returns:
        (world, axes) steps and their unit; those of the grid where it has no place on Earth.
    """
    return _axes(grid)


@lru_cache(maxsize=1024)
def _axes(grid: Grid) -> tuple[NDArray[np.float64], str | None]:
    own = grid.matrix[:-1, :-1]
    if grid.crs is None or len(grid.shape) != 2:
        return own, grid.unit
    factor = metres_in(grid.crs)
    true = _on_ellipsoid(grid)
    if factor is not None:
        own = own * factor
        lengths, wanted = (np.linalg.norm(axes, axis=0) for axes in (own, true))
        # A local system may have no place in the other: its own lengths are all there is.
        if not np.isfinite(wanted).all() or np.allclose(lengths, wanted, rtol=FAITHFUL, atol=0):
            return own, "meter"
    return true, "meter"


def _on_ellipsoid(grid: Grid) -> NDArray[np.float64]:
    """Steps east and north in metres at a scene's middle, (2, 2); NaN where it has no place."""
    assert grid.crs is not None
    middle = np.array([(n - 1) / 2 for n in grid.shape])
    walked = np.stack([middle, *(middle + STEP * np.eye(2))])
    places = to_crs(grid.index_to_world(walked), grid.crs, wkt_of("EPSG:4326"))
    metres = np.asarray(degree_lengths(float(places[0, 1])))
    return np.asarray((places[1:] - places[0]).T / STEP * metres[:, None])


def metric_spacing(grid: Grid) -> tuple[float, ...]:
    """Distance between voxels along each array axis, in the unit of ``metric_axes``."""
    return tuple(float(length) for length in np.linalg.norm(metric_axes(grid)[0], axis=0))


def voxel_size(grid: Grid) -> float:
    """Area or volume of a voxel, in the unit of ``metric_axes``; 1 where there is none."""
    steps, unit = metric_axes(grid)
    return 1.0 if unit is None else abs(float(np.linalg.det(steps)))
