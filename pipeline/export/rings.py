"""Corners of regions of pixels, and the rings they make.

A region's outline is known from its corners alone: on each line of pixel corners they pair up from
left to right, and on each column from top to bottom, and to go from one to its partner along the
line, then to that one's partner along the column, and on, is to walk around the region.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Corners:
    """Corners of regions."""

    region: NDArray[np.int64]
    """Whose each is, (m,)."""
    row: NDArray[np.int64]
    """Rows of pixels above it, (m,)."""
    column: NDArray[np.int64]
    """Columns of pixels left of it, (m,)."""
    side: NDArray[np.int8]
    """Where the pixel is whose corner it is, (m,): 0 to 3 for NW, NE, SW, SE."""

    @classmethod
    def together(cls, corners: list[Corners]) -> Corners:
        """Corners of several lists, one list after the other."""
        rows = [(c.region, c.row, c.column, c.side) for c in corners]
        return cls(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def of(self, region: NDArray[np.int64]) -> Corners:
        """The same corners of other regions."""
        return Corners(region, self.row, self.column, self.side)

    def chosen(self, which: NDArray[np.bool_]) -> Corners:
        """Some of them."""
        place = self.row[which], self.column[which]
        return Corners(self.region[which], *place, self.side[which])


def find_corners(labels: NDArray[Any], nodes: NDArray[Any], row: int, column: int) -> Corners:
    """Corners between the pixels of an array.

    Args:
        labels: Classes, (Y, X); 0 for none.
        nodes: Region of each pixel, same shape.
        row: Rows of pixels above the array's second.
        column: Columns of pixels left of the array's second.
    """
    quarters = [(slice(a, a - 1 or None), slice(b, b - 1 or None)) for a in (0, 1) for b in (0, 1)]
    nw, ne, sw, se = (labels[q] for q in quarters)
    rows, columns = np.nonzero(((nw != ne) | (sw != se)) & ((nw != sw) | (ne != se)))
    label = [labels[q][rows, columns] for q in quarters]
    node = [nodes[q][rows, columns] for q in quarters]
    found = []
    for q in range(4):
        beside, above, across = q ^ 1, q ^ 2, q ^ 3
        alone = (label[q] > 0) & (label[q] != label[beside]) & (label[q] != label[above])
        hollow = (label[across] > 0) & (label[across] != label[q])
        hollow &= (label[across] == label[beside]) & (label[across] == label[above])
        for which, of in ((alone, q), (hollow, across)):
            place = rows[which] + row, columns[which] + column
            side = np.full(len(place[0]), q, np.int8)
            found.append(Corners(node[of][which].astype(np.int64), *place, side))
    return Corners.together(found)


@dataclass(frozen=True, eq=False)
class Rings:
    """Closed rings of corners."""

    corners: NDArray[np.int64]
    """Row and column, (m, 2); a ring's last is its first."""
    starts: NDArray[np.int64]
    """Where in ``corners`` each ring starts, and the end of the last."""
    polygons: NDArray[np.int64]
    """Which ring each region starts with, its outer one, and the end of the last."""


def join_corners(corners: Corners, regions: int) -> Rings:
    """Walk around regions.

    Where pixels of one region touch by a corner alone, the ring turns so that what lies between
    them is a hole, or outside, of its own: rings never cross, nor meet themselves.

    Args:
        corners: All of the regions'.
        regions: How many there are, numbered from 0; each connected over edges.
    """
    east, south = corners.side & 1, corners.side >> 1
    order = np.lexsort((east, corners.column, corners.row, corners.region))
    region, row, column, south = (
        part[order] for part in (corners.region, corners.row, corners.column, south)
    )
    # At a corner that a region has twice, the pixel below goes up: see above.
    falling = np.lexsort((-south, row, column, region))
    partner = np.empty(len(order), np.int64)
    partner[falling] = falling.reshape(-1, 2)[:, ::-1].ravel()
    walk, starts = (np.frombuffer(found, np.int64) for found in _walks(array("q", partner)))
    # The first corner of a region, the upper left, is of its outer ring.
    polygons = np.searchsorted(region[walk[starts[:-1]]], np.arange(regions + 1))
    return Rings(np.stack([row, column], axis=1)[walk], starts, polygons)


def _walks(partner: array[int]) -> tuple[array[int], array[int]]:
    """Rings as corners one after another, each closed; and where each starts.

    Args:
        partner: Of each corner the one on its column; on its line it is the even or odd next.
    """
    seen = bytearray(len(partner))
    walk, starts = array("q"), array("q", [0])
    for start in range(0, len(partner), 2):
        corner = start
        while not seen[corner]:
            across = corner ^ 1
            seen[corner] = seen[across] = 1
            walk.append(corner)
            walk.append(across)
            corner = partner[across]
        if len(walk) > starts[-1]:
            walk.append(start)
            starts.append(len(walk))
    return walk, starts
