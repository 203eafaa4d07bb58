"""Planes of an array, chosen and turned as people of the field expect them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Grid

Size = tuple[int, int]

# Small planes are drawn larger than they are, so that a contour is thinner than a voxel.
LEAST_SIDE, MOST_SIDE = 640, 1024
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class View:
    """A plane of an array, turned as people of the field expect it."""

    name: str
    """What the plane is called."""
    axis: int | None
    """Array axis the plane stands across; None: the array is the plane."""
    index: int
    """The plane's place on that axis."""
    transposed: bool
    """Whether rows and columns change places."""
    flipped: tuple[bool, bool]
    """Whether rows run backwards, whether columns do; after the change of places."""
    spacing: tuple[float, float]
    """Distance between rows and between columns, as shown."""

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The plane of an array: (..., *S) -> (..., H, W)."""
        plane = array if self.axis is None else np.take(array, self.index, axis=self.axis - 3)
        if self.transposed:
            plane = np.swapaxes(plane, -1, -2)
        rows, columns = (slice(None, None, -1 if flip else None) for flip in self.flipped)
        return plane[..., rows, columns]

    def size(self, shape: Size, most: int = MOST_SIDE) -> Size:
        """Height and width in pixels at which a plane is drawn, in true proportions.

        Args:
            shape: Of the plane.
            most: Longest side of what is drawn.
        """
        finest = min(self.spacing)
        true = [n * s / finest for n, s in zip(shape, self.spacing, strict=True)]
        whole = max(1, ceil(LEAST_SIDE / max(true)))
        factor = min(float(whole), most / max(true))
        height, width = (max(1, round(n * factor)) for n in true)
        return height, width


def choose_views(grid: Grid, foreground: NDArray[np.bool_]) -> list[View]:
    """The planes to show: one across each axis of a volume, the picture itself of a scene.

    A plane is the one with most foreground, the one next to the middle where several have it.
    Scans are turned so that superior or anterior is up and the patient's right is right, scenes so
    that north is up; arrays without a place in the world stay as they are.

    Args:
        grid: Of the array.
        foreground: What should be seen, (Z, Y, X) or (Y, X).
    """
    if len(grid.shape) == 2:
        return [_view(grid, None, 0)]
    views = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        counts = foreground.sum(axis=others)
        fullest = np.flatnonzero(counts == counts.max())
        middle = (len(counts) - 1) / 2
        views.append(_view(grid, axis, int(fullest[np.argmin(np.abs(fullest - middle))])))
    return views


def _view(grid: Grid, axis: int | None, index: int) -> View:
    row, column = (a for a in range(len(grid.shape)) if a != axis)
    name = "" if axis is None else grid.axes[axis]
    placed = _directions(grid)
    transposed, flipped = False, (False, False)
    if placed is not None:
        world, rising = placed
        name = name if axis is None or grid.crs is not None else PLANES[world[axis]]
        if transposed := world[row] < world[column]:
            row, column = column, row
        flipped = (rising[row], not rising[column])
    return View(name, axis, index, transposed, flipped, (grid.spacing[row], grid.spacing[column]))


def _directions(grid: Grid) -> tuple[list[int], list[bool]] | None:
    """For each array axis the world axis it follows most, and whether it rises along it.

    None where up and right mean nothing: plain pictures, and axes at 45 degrees to the world.
    """
    scan = len(grid.shape) == 3 and grid.unit == "millimeter"
    linear = grid.matrix[:-1, :-1]
    world = [int(w) for w in np.argmax(np.abs(linear), axis=0)]
    if not (scan or grid.crs is not None) or len(set(world)) < len(world):
        return None
    return world, [bool(linear[w, a] > 0) for a, w in enumerate(world)]
