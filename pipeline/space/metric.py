"""Lengths and sizes of voxels where the grid's own unit is no length: degrees become metres."""

from __future__ import annotations

from math import cos, radians

import numpy as np
from numpy.typing import NDArray

from pipeline.space.grid import Grid


def metric_axes(grid: Grid) -> tuple[NDArray[np.float64], str | None]:
    """Steps along the array's axes in a unit of length.

    Degrees are taken at the grid's middle, where they are so many metres on the WGS 84 ellipsoid;
    over a scene of a hundred kilometres, at 60° latitude, its ends differ from that by 2 %.

    Returns:
        (world, axes) steps, and their unit; those of the grid where it has no unit.

    Example:
        >>> from pipeline.space import voxel_grid
        >>> metric_axes(voxel_grid((4, 4)))[1] is None
        True
    """
    steps = grid.matrix[:-1, :-1]
    if grid.unit != "degree":
        return steps, grid.unit
    middle = grid.index_to_world([(n - 1) / 2 for n in grid.shape])
    metres = np.asarray(degree_lengths(float(middle[1])))
    return steps * metres[:, None], "meter"


def degree_lengths(latitude: float) -> tuple[float, float]:
    """Metres of a degree of longitude and of a degree of latitude, on WGS 84.

    The series of the National Geospatial-Intelligence Agency, good to a centimetre.

    Example:
        >>> [round(metres) for metres in degree_lengths(45.0)]
        [78847, 111132]
    """
    phi = radians(latitude)
    east = 111412.84 * cos(phi) - 93.5 * cos(3 * phi) + 0.118 * cos(5 * phi)
    north = 111132.954 - 559.822 * cos(2 * phi) + 1.175 * cos(4 * phi)
    return east, north


def metric_spacing(grid: Grid) -> tuple[float, ...]:
    """Distance between voxels along each array axis, in the unit of ``metric_axes``."""
    return tuple(float(length) for length in np.linalg.norm(metric_axes(grid)[0], axis=0))


def voxel_size(grid: Grid) -> float:
    """Area or volume of a voxel, in the unit of ``metric_axes``; 1 where there is none."""
    steps, unit = metric_axes(grid)
    return 1.0 if unit is None else abs(float(np.linalg.det(steps)))
