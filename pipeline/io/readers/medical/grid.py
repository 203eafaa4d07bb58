"""The grid of a scan, from the affine that its file gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.space import Grid, Shape
from pipeline.space.grid import as_affine

FLATTEST = 1e-6
"""Least volume of a voxel, as a share of the box that its edges would span at right angles."""


def medical_grid(path: Path, shape: Shape, affine: NDArray[np.float64]) -> Grid:
    """A grid in RAS+ millimetres.

    Args:
        path: The file, for the message.
        shape: (Z, Y, X) or (Y, X).
        affine: Index in the file's order, (x, y[, z]) → world.

    Raises:
        CaseError: The affine maps voxels to no place: two axes run along one line, say.
    """
    count = len(shape)
    linear = affine[:count, :count]
    with np.errstate(all="ignore"):
        box = np.prod(np.linalg.norm(linear, axis=0))
        flat = not abs(np.linalg.det(linear)) > FLATTEST * box
    if flat or not np.isfinite(affine).all():
        raise CaseError(
            f"{path.name} has an affine that maps voxels to no place.",
            "Write a valid place into its header: spacing, directions, origin.",
        )
    reordered = affine[:, [*range(count)[::-1], count]]
    return Grid(tuple(shape), as_affine(reordered), "millimeter")
