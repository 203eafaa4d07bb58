"""The connected regions of a whole mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GridError
from pipeline.space import Shape, Window


@dataclass(frozen=True, eq=False)
class BlockValues:
    """All that a task needs to fill one block with values of components."""

    window: Window
    """The block."""
    shape: Shape
    """The volume's size in voxels."""
    background: int | None
    """Label of the background class; None: there is none."""
    label: NDArray[Any]
    """Label of each part of the block, (n,), ascending."""
    value: NDArray[Any]
    """What each part becomes, (n,)."""


@dataclass(frozen=True, eq=False)
class Components:
    """Connected regions of one label, numbered from 0 by their first voxel in C order.

    Classes are connected over faces, edges and corners (8 or 26 neighbours), the background over
    faces alone (4 or 6).
    """

    shape: Shape
    """The volume's size in voxels, (Z, Y, X) or (Y, X)."""
    background: int | None
    """Label of the background class; None: there is none."""
    label: NDArray[Any]
    """Label of each component, (n,), in the mask's type."""
    size: NDArray[np.int64]
    """Voxels of each, (n,)."""
    first: NDArray[np.int64]
    """Smallest C-order index of its voxels, (n,), ascending."""
    outside: NDArray[np.bool_]
    """Whether it has a voxel on the volume's border or beside one of no data, (n,)."""
    counts: NDArray[np.int64] | None
    """Voxels of each by true class, (n, K), those of unknown truth left out; None: no truth."""
    touching: NDArray[np.int64]
    """Background components and class components that share a face, unique, (m, 2)."""
    blocks: Mapping[Window, NDArray[np.int64]]
    """By block the component of each of its parts: of part number i at i - 1."""

    def values(self, window: Window, table: NDArray[Any]) -> BlockValues:
        """Give what one block needs of a table of values per component.

        Args:
            window: The block, one of those the components were found in.
            table: A value for each component, (n,).

        Raises:
            GridError: There is no such block.
        """
        if window not in self.blocks:
            raise GridError(
                f"{window.start}..{window.stop} is none of the {len(self.blocks)} blocks in which "
                "the components were found: use the same blocks"
            )
        held = self.blocks[window]
        return BlockValues(window, self.shape, self.background, self.label[held], table[held])
