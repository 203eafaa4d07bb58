"""Rules for arrays that say little of themselves: which axis is which, and how long a voxel.

Where a file names its axes they are taken by name; else one rule holds for all formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.space import Grid, Shape, voxel_grid
from pipeline.space.grid import as_affine


def plain_axes(shape: Shape, dtype: np.dtype[Any], path: Path) -> str:
    """Axes of an array that does not name them.

    Two axes are (Y, X). Three are (Z, Y, X); only a last axis of 1, or of 3 or 4 bytes as pictures
    have, is (Y, X, C). Four are (C, Z, Y, X), or (Z, Y, X, C) where the last alone is 4 or fewer.

    Raises:
        CaseError: There are other than 2 to 4 axes.

    Example:
        >>> plain_axes((30, 512, 512), np.dtype("uint8"), Path("a.npy"))
        'zyx'
    """
    if len(shape) not in (2, 3, 4):
        raise CaseError(
            f"{path.name} has an array of shape {shape}: 2 axes (Y, X), 3 (Z, Y, X) or 4 "
            "(C, Z, Y, X) are expected.",
            "Save the axes of each case in this order.",
        )
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3:
        picture = shape[2] == 1 or (shape[2] in (3, 4) and dtype == np.uint8)
        return "yxc" if picture else "zyx"
    return "zyxc" if shape[3] <= 4 < shape[0] else "czyx"


def spatial(shape: Shape, axes: str) -> Shape:
    """Size of the spatial axes, (Z, Y, X) or (Y, X)."""
    sizes = dict(zip(axes, shape, strict=True))
    return tuple(sizes[axis] for axis in "zyx" if axis in sizes)


def channel_first(array: NDArray[Any], axes: str) -> NDArray[Any]:
    """Elements in segflow's order, (C, Z, Y, X) or (C, Y, X); other axes have size 1 and go."""
    kept = "".join(axis for axis in axes if axis in "czyx")
    box = array.reshape([n for n, axis in zip(array.shape, axes, strict=True) if axis in "czyx"])
    ordered = box.transpose([kept.index(axis) for axis in "czyx" if axis in kept])
    return ordered if "c" in kept else ordered[None]


def scaled_grid(shape: Shape, spacing_mm: Sequence[float] | None) -> Grid:
    """The grid of an array that knows its scale but not its place.

    Args:
        shape: (Z, Y, X) or (Y, X).
        spacing_mm: Millimetres between voxels, same axes; None, or a size that is none, gives a
            grid of voxels.
    """
    known = spacing_mm is not None and all(np.isfinite(s) and s > 0 for s in spacing_mm)
    grid = voxel_grid(shape)
    if not known or spacing_mm is None:
        return grid
    scale = np.diag([*spacing_mm, 1.0])
    return Grid(tuple(shape), as_affine(grid.matrix @ scale), "millimeter")
