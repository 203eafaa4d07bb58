"""The errors of the ISBI 2012 challenge: are cells kept apart that membranes keep apart?

Both are of single slices, 2-D, of cells (connected over edges of pixels, 4 neighbours) and
membrane between them (8 neighbours). They differ from the challenge's own script, the metrics of
Fiji's Trainable Segmentation, in this:

- The mask is as predicted. The script takes the best of several thresholds of probabilities.
- Pixels on a straight line between two cells are as near to both; the script's watershed and ours
  may put the thinned border on either.
- The script flips the most certain pixels first, and of equally certain ones by columns; ours go
  by every other pixel of every other row. Warping finds one of many smallest errors either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.score.objects import Overlaps, Reader
from pipeline.space import Shape, Window

AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""Steps to the 8 neighbours, in the order of their bits."""
EDGES = ndimage.generate_binary_structure(2, 1)
CORNERS = ndimage.generate_binary_structure(2, 2)


@dataclass(frozen=True)
class MembraneCounts:
    """Sums over slices that both errors follow from; merged by adding, over cases too."""

    pixels: int = 0
    """Scored pixels."""
    changed: int = 0
    """Pixels that differ once the truth is warped onto the mask."""
    shared: int = 0
    """Ordered pairs of true cell pixels that are in one cell in both, each with itself too."""
    truth: int = 0
    """Such pairs that are in one cell in the truth."""
    mask: int = 0
    """Such pairs that are in one cell in the mask."""

    def __add__(self, other: MembraneCounts) -> MembraneCounts:
        return MembraneCounts(
            self.pixels + other.pixels,
            self.changed + other.changed,
            self.shared + other.shared,
            self.truth + other.truth,
            self.mask + other.mask,
        )

    @property
    def warping(self) -> float | None:
        """Warping error: share of the pixels that topology keeps apart (Jain 2010)."""
        return self.changed / self.pixels if self.pixels else None

    @property
    def rand(self) -> float | None:
        """Rand error, 1 - F-score of pairs of true cell pixels (Arganda-Carreras 2015).

        V_rand after thinning, subtracted from 1; None where the truth has no cell.
        """
        return 1 - 2 * self.shared / (self.truth + self.mask) if self.truth else None


def membrane_counts(
    mask: Reader, truth: Reader, shape: Shape, cells: Sequence[int], classes: int
) -> MembraneCounts:
    """Compare the cells of a mask and its truth, slice by slice; one slice is held at a time.

    Args:
        mask: Reader of predicted labels; those of ``classes`` and above are no data.
        truth: Reader of true labels; those of ``classes`` and above are not scored.
        shape: The volume's size in voxels, (Z, Y, X) or (Y, X).
        cells: Labels of what membranes enclose; all others are membrane.
        classes: Number of classes, K.
    """
    total = MembraneCounts()
    for z in range(shape[0] if len(shape) == 3 else 1):
        lead = (z,) if len(shape) == 3 else ()
        window = Window((*lead, 0, 0), (*(1 for _ in lead), *shape[-2:]))
        ours, theirs = (np.asarray(read(window)).reshape(shape[-2:]) for read in (mask, truth))
        scored = (ours < classes) & (theirs < classes)
        total += slice_counts(np.isin(ours, cells), np.isin(theirs, cells), scored)
    return total


def slice_counts(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> MembraneCounts:
    """Compare one slice.

    Args:
        mask: Where cells are predicted, (Y, X).
        truth: Where they are.
        scored: Which pixels count; the others are membrane in both.
    """
    mask, truth = mask & scored, truth & scored
    changed = warped(truth, mask, scored) != mask
    counted = MembraneCounts(int(scored.sum()), int(changed.sum()))
    return counted + _pairs(ndimage.label(truth, EDGES)[0], thinned(mask), scored)


def _pairs(truth: NDArray[Any], mask: NDArray[Any], scored: NDArray[np.bool_]) -> MembraneCounts:
    """Pairs of true cell pixels; a pixel of predicted membrane is a cell of its own."""
    held = (truth > 0) & scored
    overlaps = Overlaps.of(truth[held].astype(np.int64), mask[held].astype(np.int64))
    (true, predicted), voxels = overlaps.pairs.T, overlaps.voxels
    single = int(voxels[predicted == 0].sum())
    inside = predicted > 0
    return MembraneCounts(
        shared=_squares(voxels[inside]) + single,
        truth=_squares(np.bincount(true, voxels)),
        mask=_squares(np.bincount(predicted[inside], voxels[inside])) + single,
    )


def _squares(sizes: NDArray[Any]) -> int:
    return sum(int(size) ** 2 for size in sizes)


def thinned(cells: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number cells that are grown until their borders are one pixel thin.

    Every pixel goes to the nearest cell; then, of two neighbours of different cells, one that was
    membrane is border again. So the Rand error does not ask how thick membranes are drawn.

    Args:
        cells: Where they are, (Y, X).

    Returns:
        Numbers from 1, 0 of borders, (Y, X).
    """
    numbers = np.zeros(cells.shape, np.int64)
    if not ndimage.label(cells, EDGES, output=numbers):
        return numbers
    nearest = ndimage.distance_transform_edt(~cells, return_distances=False, return_indices=True)
    grown: NDArray[np.int64] = numbers[tuple(nearest)]
    border = np.zeros(cells.shape, np.bool_)
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = grown[before] != grown[after]
        border[before] |= differ & ~cells[before]
        border[after] |= differ & cells[before]
    grown[border] = 0
    return grown


def warped(
    truth: NDArray[np.bool_], mask: NDArray[np.bool_], free: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Warp the truth onto the mask without joining, splitting, making or losing cells or holes.

    Pixels that differ are flipped as long as one of them is simple: its flip changes no topology.
    What differs in the end is a matter of topology (Jain 2010). Beyond the slice is membrane.

    Args:
        truth: Where cells are, (Y, X).
        mask: Where they are predicted.
        free: Which pixels may be flipped.
    """
    now = np.pad(truth, 1)
    goal = np.where(np.pad(free, 1), np.pad(mask, 1), now)
    flipped = True
    while flipped:
        flipped = False
        rows, columns = np.nonzero(now != goal)
        # No two pixels of a quarter are neighbours: flipped together or in turn, it is the same.
        quarter = rows % 2 * 2 + columns % 2
        for i in range(4):
            y, x = rows[quarter == i], columns[quarter == i]
            bits = [now[y + dy, x + dx].astype(np.uint8) << b for b, (dy, dx) in enumerate(AROUND)]
            simple = simple_codes()[np.bitwise_or.reduce(bits)]
            now[y[simple], x[simple]] ^= True
            flipped |= bool(simple.any())
    return now[1:-1, 1:-1]


@cache
def simple_codes() -> NDArray[np.bool_]:
    """Whether a pixel is simple, by what is around it, (256,); bits as AROUND.

    It is where the cells around it that share an edge with it are one, 4-connected, and the
    membrane around it is one, 8-connected (Bertrand and Malandain 1994).
    """
    simple = np.zeros(256, np.bool_)
    for code in range(256):
        patch = np.zeros((3, 3), np.bool_)
        for bit, (dy, dx) in enumerate(AROUND):
            patch[1 + dy, 1 + dx] = code >> bit & 1
        membrane = ~patch
        membrane[1, 1] = False
        cells = ndimage.label(patch, EDGES)[0]
        touching = set(cells[EDGES & (cells > 0)].tolist())
        simple[code] = len(touching) == 1 and ndimage.label(membrane, CORNERS)[1] == 1
    return simple
