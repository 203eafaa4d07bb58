"""How well objects are found: panoptic quality, F1 and average precision over overlaps.

Objects of mask and truth are compared by how many voxels they share, counted window by window.
Two are a match where their IoU is above a threshold of a half or more: then neither has another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.components import apply, block_parts, grown_window, merge, objects
from pipeline.space import Shape, Window

Reader = Callable[[Window], NDArray[Any]]
"""Labels, or object numbers, of a window inside the volume, (*S)."""
THRESHOLDS = tuple(range(10, 20))
"""IoU thresholds of the Data Science Bowl 2018, 0.5, 0.55 … 0.95, in twentieths: exact."""
VOID = -1
"""Number of what the truth does not score."""
INSIDE, OUTSIDE = 1, 255
SLAB_VOXELS = 2**21
"""Voxels compared at a time."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Voxels that objects share; merged by adding, in any order."""

    pairs: NDArray[np.int64]
    """Unique pairs of a true and a predicted object's number, (n, 2); 0 is none, VOID unscored."""
    voxels: NDArray[np.int64]
    """Voxels of each pair, (n,)."""

    @classmethod
    def of(cls, truth: NDArray[np.int64], mask: NDArray[np.int64]) -> Overlaps:
        """Count the pairs of two arrays of object numbers, of the same shape."""
        truth, mask = truth.ravel(), mask.ravel()
        first = np.ones(len(truth), np.bool_)
        first[1:] = (truth[1:] != truth[:-1]) | (mask[1:] != mask[:-1])
        # Runs of one pair are sorted in place of voxels: there are a hundred times fewer.
        starts = np.flatnonzero(first)
        lengths = np.diff(starts, append=len(truth))
        return cls._summed(np.stack([truth[starts], mask[starts]], axis=1), lengths)

    @classmethod
    def _summed(cls, pairs: NDArray[np.int64], voxels: NDArray[np.int64]) -> Overlaps:
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        pairs, voxels = pairs[order], voxels[order]
        first = np.ones(len(pairs), np.bool_)
        first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
        starts = np.flatnonzero(first)
        return cls(pairs[starts], np.add.reduceat(voxels, starts) if len(starts) else voxels)

    def __add__(self, other: Overlaps) -> Overlaps:
        pairs = np.concatenate([self.pairs, other.pairs])
        return self._summed(pairs, np.concatenate([self.voxels, other.voxels]))


@dataclass(frozen=True)
class ObjectCounts:
    """Objects, and those that match; merged by adding, over cases too."""

    n_truth: int = 0
    """True objects."""
    n_predicted: int = 0
    """Predicted objects."""
    matched: tuple[int, ...] = (0,) * len(THRESHOLDS)
    """Matches at each of THRESHOLDS."""
    iou_sum: float = 0.0
    """Of the matches above a half."""

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(
            self.n_truth + other.n_truth,
            self.n_predicted + other.n_predicted,
            tuple(a + b for a, b in zip(self.matched, other.matched, strict=True)),
            self.iou_sum + other.iou_sum,
        )

    @property
    def empty(self) -> bool:
        """Whether there is no object in either: then no figure is defined."""
        return self.n_truth + self.n_predicted == 0

    @property
    def sq(self) -> float | None:
        """Segmentation quality: mean IoU of the matches above a half; None without one."""
        return self.iou_sum / self.matched[0] if self.matched[0] else None

    @property
    def rq(self) -> float | None:
        """Recognition quality, F1 at an IoU above a half; None where there is no object."""
        return self.at(0)["f1"]

    @property
    def f1(self) -> float | None:
        """F1 at an IoU above a half: the recognition quality under its other name."""
        return self.rq

    @property
    def pq(self) -> float | None:
        """Panoptic quality, segmentation times recognition quality (Kirillov 2019)."""
        return None if self.empty else 2 * self.iou_sum / (self.n_truth + self.n_predicted)

    @property
    def ap(self) -> float | None:
        """Average precision, the mean over THRESHOLDS of tp / (tp + fp + fn).

        As the Data Science Bowl 2018 has it of an image, and StarDist and Cellpose after it.
        """
        told = [float(row["ap"]) for row in self.by_iou if row["ap"] is not None]
        return sum(told) / len(THRESHOLDS) if told else None

    @property
    def by_iou(self) -> list[dict[str, float | None]]:
        """Figures at each threshold: ``iou``, ``precision``, ``recall``, ``f1``, ``ap``."""
        return [self.at(i) for i in range(len(THRESHOLDS))]

    def at(self, threshold: int) -> dict[str, float | None]:
        """Figures at one of THRESHOLDS, by its place; None where a figure has nothing to count."""
        tp, truth, mask = self.matched[threshold], self.n_truth, self.n_predicted
        return {
            "iou": THRESHOLDS[threshold] / 20,
            "precision": tp / mask if mask else None,
            "recall": tp / truth if truth else None,
            "f1": 2 * tp / (truth + mask) if truth + mask else None,
            "ap": tp / (truth + mask - tp) if truth + mask else None,
        }


def object_counts(
    mask: Reader,
    truth: Reader,
    shape: Shape,
    windows: Sequence[Window],
    labels: Sequence[int],
    classes: int,
    mask_ids: Reader | None = None,
    truth_ids: Reader | None = None,
) -> ObjectCounts:
    """Compare the objects of one class, or of a region of classes, in a mask and its truth.

    Args:
        mask: Reader of predicted labels; those of ``classes`` and above are no data.
        truth: Reader of true labels; those of ``classes`` and above are not scored.
        shape: The volume's size in voxels, (Z, Y, X) or (Y, X).
        windows: Boxes that cover it, each voxel once; they are all that is read.
        labels: The class, or the region's classes.
        classes: Number of classes, K.
        mask_ids: Reader of the predicted objects' numbers, 0 where there is none; None: they are
            what is connected in the mask.
        truth_ids: The same of the true objects.
    """
    ours = mask_ids or numbered(mask, shape, windows, labels)
    theirs = truth_ids or numbered(truth, shape, windows, labels)
    return match(object_overlaps(mask, truth, ours, theirs, windows, labels, classes))


def numbered(
    reader: Reader, shape: Shape, windows: Sequence[Window], labels: Sequence[int]
) -> Reader:
    """Number what is connected of some classes, over faces, edges and corners.

    The volume is read window by window and may be larger than memory; what is held is a row for
    each part of an object in each window.

    Args:
        reader: Reader of labels.
        shape: The volume's size in voxels.
        windows: Boxes that cover it, each voxel once.
        labels: The classes, whose union is looked at.

    Returns:
        Reader of object numbers, 0 where there is none, of these windows alone.
    """

    def inside(window: Window) -> NDArray[np.uint8]:
        held = np.isin(reader(grown_window(window, shape)), labels)
        return np.where(held, np.uint8(INSIDE), np.uint8(OUTSIDE))

    parts = (
        block_parts(inside(w), w, shape, background=None, no_label=OUTSIDE, classes=0)
        for w in windows
    )
    found = merge(tuple(shape), parts)
    numbers = objects(found, found.label)

    def read(window: Window) -> NDArray[Any]:
        block = found.values(window, numbers)
        return apply(inside(window), block, no_label=OUTSIDE, fill=0)

    return read


def object_overlaps(
    mask: Reader,
    truth: Reader,
    mask_ids: Reader,
    truth_ids: Reader,
    windows: Iterable[Window],
    labels: Sequence[int],
    classes: int,
) -> Overlaps:
    """Count the voxels that objects share, window by window; arguments as ``object_counts``.

    Voxels that are not scored are VOID in place of a true object; where the mask says nothing,
    nothing is predicted.
    """
    total = Overlaps(np.empty((0, 2), np.int64), np.empty(0, np.int64))
    for window in windows:
        held = [read(window) for read in (mask, truth, mask_ids, truth_ids)]
        step = max(1, SLAB_VOXELS * window.shape[0] // max(1, window.size))
        for row in range(0, window.shape[0], step):
            predicted, told, ours, theirs = (array[row : row + step] for array in held)
            ours = np.where(np.isin(predicted, labels), ours, 0).astype(np.int64)
            theirs = np.where(np.isin(told, labels), theirs, 0).astype(np.int64)
            theirs[(told >= classes) | (predicted >= classes)] = VOID
            total += Overlaps.of(theirs, ours)
    return total


def match(overlaps: Overlaps) -> ObjectCounts:
    """Match objects by their IoU over the voxels that are scored.

    A match has an IoU above the threshold, not at it (Kirillov 2019; the Data Science Bowl says
    "greater than"). A predicted object that lies more than half where nothing is scored is
    counted only if it is a match above a half (Kirillov 2019).
    """
    pairs, voxels = overlaps.pairs, overlaps.voxels
    truth, mask = pairs.T
    scored = truth != VOID
    truth_size = _sizes(truth, voxels)
    mask_size, mask_void = (
        _sizes(mask[scored], voxels[scored]),
        _sizes(mask[~scored], voxels[~scored]),
    )
    iou_over: list[tuple[int, int]] = []
    hit = set()
    for t, m, shared in _both(pairs, voxels):
        union = truth_size[t] + mask_size[m] - shared
        if 2 * shared > union:
            iou_over.append((shared, union))
            hit.add(m)
    predicted = {m for m in mask_size.keys() | mask_void.keys() if m > 0}
    kept = [m for m in predicted if m in hit or mask_void.get(m, 0) <= mask_size.get(m, 0)]
    return ObjectCounts(
        sum(t > 0 for t in truth_size),
        len(kept),
        tuple(sum(20 * a > k * b for a, b in iou_over) for k in THRESHOLDS),
        fsum(a / b for a, b in iou_over),
    )


def _sizes(numbers: NDArray[np.int64], voxels: NDArray[np.int64]) -> dict[int, int]:
    """Voxels by object number."""
    found, row = np.unique(numbers, return_inverse=True)
    total = np.zeros(len(found), np.int64)
    np.add.at(total, row, voxels)
    return dict(zip(found.tolist(), total.tolist(), strict=True))


def _both(pairs: NDArray[np.int64], voxels: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Pairs of two objects and what they share."""
    kept = (pairs > 0).all(axis=1)
    for (truth, mask), shared in zip(pairs[kept].tolist(), voxels[kept].tolist(), strict=True):
        yield truth, mask, shared
