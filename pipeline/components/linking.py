"""Which parts of neighbouring blocks are one, told by the voxels that both of them hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.components.faces import Face
from pipeline.components.graph import unique_pairs
from pipeline.errors import GridError
from pipeline.space import Window


@dataclass
class _Waiting:
    """A face that has not met all its neighbours."""

    face: Face
    nodes: int
    """Node of its block's first part."""
    left: int
    """Voxels it awaits still."""


class Linker:
    """Meets the faces of blocks in any order; holds only those whose neighbours are to come.

    Where blocks do not lie on a grid some faces are held to the end; the links are the same.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int, bool], list[_Waiting]] = defaultdict(list)
        self._links: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]

    @property
    def links(self) -> NDArray[np.int64]:
        """Pairs of nodes that are one component, (m, 2)."""
        return np.concatenate(self._links)

    @property
    def waiting(self) -> int:
        """Faces that are held."""
        return sum(map(len, self._waiting.values()))

    def add(self, faces: Sequence[Face], nodes: int) -> None:
        """Link a block with those that came before.

        Args:
            faces: The block's.
            nodes: Node of the block's first part; the others follow.

        Raises:
            GridError: Two blocks do not hold data in the same voxels.
        """
        for face in faces:
            self._meet(_Waiting(face, nodes, face.awaited.size))

    def _meet(self, new: _Waiting) -> None:
        axis, index = new.face.axis, new.face.window.start[new.face.axis]
        opposite = (axis, index, not new.face.upper)
        parts = new.face.parts
        for other in self._waiting[opposite]:
            shared = new.face.window.intersection(other.face.window)
            if shared.size:
                self._links.append(_links(new, _cut(parts, new, shared), other, shared))
                new.left -= new.face.awaited.intersection(other.face.own).size
                other.left -= other.face.awaited.intersection(new.face.own).size
        self._waiting[opposite] = [other for other in self._waiting[opposite] if other.left]
        if new.left:
            self._waiting[axis, index, new.face.upper].append(new)


def _cut(parts: NDArray[np.int32], of: _Waiting, shared: Window) -> NDArray[np.int64]:
    return parts[shared.relative_to(of.face.window).slices].ravel().astype(np.int64)


def _links(
    new: _Waiting, numbers: NDArray[np.int64], other: _Waiting, shared: Window
) -> NDArray[np.int64]:
    """Unique pairs of nodes that hold the same voxel, (m, 2)."""
    others = _cut(other.face.parts, other, shared)
    if ((numbers > 0) != (others > 0)).any():
        raise GridError(
            f"two blocks disagree on where there is data in {shared.start}..{shared.stop}: "
            "cut all blocks from one mask"
        )
    rows = unique_pairs(np.stack([numbers, others], axis=1)[numbers > 0])
    rows += np.array([new.nodes, other.nodes]) - 1
    return rows
