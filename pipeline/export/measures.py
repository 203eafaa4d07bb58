"""What is measured of objects, block by block: sums that add up to those of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Window


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of objects, numbered from 1: row i is that of object i + 1."""

    label: NDArray[np.int64]
    """Class of each, (n,)."""
    voxels: NDArray[np.int64]
    """Voxels of each, (n,)."""
    size: NDArray[np.float64]
    """Sum of their sizes, (n,)."""
    total: NDArray[np.int64]
    """Sum of their indices, (n, axes)."""
    low: NDArray[np.int64]
    """Least index, (n, axes)."""
    high: NDArray[np.int64]
    """Greatest index, (n, axes); -1 of objects without a voxel."""

    @classmethod
    def none(cls, objects: int, axes: int) -> Measures:
        """Objects of which nothing is known yet."""
        label, voxels = np.zeros((2, objects), np.int64)
        low = np.full((objects, axes), np.iinfo(np.int64).max)
        return cls(label, voxels, np.zeros(objects), np.zeros_like(low), low, np.full_like(low, -1))

    def add(
        self,
        window: Window,
        labels: NDArray[Any],
        objects: NDArray[Any],
        sizes: NDArray[np.float64],
    ) -> None:
        """Add the voxels of a block.

        Args:
            window: The block.
            labels: Class of each voxel, (*S).
            objects: Object of each, (*S); 0 for none.
            sizes: Of each, in a shape that broadcasts to (*S).
        """
        index = np.nonzero(objects)
        order = np.argsort(objects[index], kind="stable")
        index = tuple(places[order] for places in index)
        number = objects[index].astype(np.int64) - 1
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        if not len(starts):
            return
        held = number[starts]
        self.label[held] = labels[index][starts]
        self.voxels[held] += np.diff(starts, append=len(number))
        self.size[held] += np.add.reduceat(np.broadcast_to(sizes, objects.shape)[index], starts)
        for axis, (places, first) in enumerate(zip(index, window.start, strict=True)):
            along = places + first
            self.total[held, axis] += np.add.reduceat(along, starts)
            low, high = (ufunc.reduceat(along, starts) for ufunc in (np.minimum, np.maximum))
            self.low[held, axis] = np.minimum(self.low[held, axis], low)
            self.high[held, axis] = np.maximum(self.high[held, axis], high)

    def rows(self, which: NDArray[Any]) -> Measures:
        """Some of them."""
        parts = self.label, self.voxels, self.size, self.total, self.low, self.high
        return Measures(*(part[which] for part in parts))
