"""A few voxels of a class, each equally likely, without looking at every voxel.

Imagine a random rank drawn for every voxel of the class: the voxels of lowest rank are a uniform
sample. Of the n ranks in a block only the lowest matter, and those can be drawn without the
others: the lowest of n exponential ranks is 1/n times one such draw, the next one lies 1/(n-1)
times another draw above it, and so on (Rényi 1953). Who of the block's voxels has them is drawn
too. Everything random follows from the block's place, so no order of blocks can change it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Shape

POSITIONS = 256
"""Voxel positions kept of each class: what patches are centred on."""


class Positions:
    """Collects voxels of one class."""

    def __init__(self) -> None:
        self._ranks = np.empty(0, np.float64)
        self._voxels = np.empty(0, np.int64)

    def add(
        self,
        label: int,
        block: Shape,
        count: int,
        find: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    ) -> None:
        """Take in the class's voxels of a block.

        Args:
            label: The class.
            block: The block's place in the grid of blocks.
            count: Its voxels of the class, one at least.
            find: Gives the volume's flat indices, (m,), of some of those voxels, by number.
        """
        random = np.random.default_rng([label, *block])
        most = min(POSITIONS, count)
        ranks = np.cumsum(random.standard_exponential(most) / (count - np.arange(most)))
        if len(self._ranks) == POSITIONS:
            ranks = ranks[ranks <= self._ranks[-1]]
        if len(ranks) > 0:
            numbers = random.choice(count, most, replace=False)[: len(ranks)]
            self._keep(ranks, find(numbers))

    def merge(self, other: Positions) -> None:
        """Take in the voxels of other blocks."""
        self._keep(other._ranks, other._voxels)

    def _keep(self, ranks: NDArray[np.float64], voxels: NDArray[np.int64]) -> None:
        ranks = np.concatenate([self._ranks, ranks])
        voxels = np.concatenate([self._voxels, voxels])
        order = np.lexsort((voxels, ranks))[:POSITIONS]
        self._ranks, self._voxels = ranks[order], voxels[order]

    def to_json(self, shape: Shape) -> list[list[int]]:
        """Index of each voxel kept, in a volume of this shape; random order."""
        index = np.stack(np.unravel_index(self._voxels, shape), axis=1)
        listed: list[list[int]] = index.tolist()
        return listed
