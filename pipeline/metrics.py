"""Integer counts per window, and the scores that follow from them.

Counts are merged by adding, in any order, and give the same score as one pass over whole arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Counts:
    """Voxels of one class by agreement of mask and truth."""

    tp: int
    """In both."""
    fp: int
    """In the mask only."""
    fn: int
    """In the truth only."""
    tn: int
    """In neither."""

    @property
    def empty(self) -> bool:
        """Whether the class is absent from both mask and truth: then no score is defined."""
        return self.tp + self.fp + self.fn == 0

    @property
    def dice(self) -> float | None:
        """Give 2 tp / (2 tp + fp + fn) (Dice 1945); None where the class is empty."""
        return None if self.empty else 2 * self.tp / (2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float | None:
        """Give tp / (tp + fp + fn) (Jaccard 1912); None where the class is empty."""
        return None if self.empty else self.tp / (self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """Give tp / (tp + fp); None where the mask has none of the class."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Give tp / (tp + fn); None where the truth has none of the class."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None


def confusion(mask: NDArray[Any], truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count label pairs.

    Args:
        mask: Predicted labels, any shape; labels of ``classes`` and above are no data.
        truth: True labels, same shape; labels of ``classes`` and above are not scored.
        classes: Number of classes, K.

    Returns:
        (K, K) counts, truth by row, mask by column, of voxels where both hold a class.
    """
    known = (mask < classes) & (truth < classes)
    pairs = truth[known].astype(np.int64) * classes + mask[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_counts(matrix: NDArray[np.int64]) -> list[Counts]:
    """Each class's counts from a confusion matrix of shape (K, K)."""
    total, rows, columns = int(matrix.sum()), matrix.sum(axis=1), matrix.sum(axis=0)
    counts = []
    for k in range(len(matrix)):
        tp = int(matrix[k, k])
        fp, fn = int(columns[k]) - tp, int(rows[k]) - tp
        counts.append(Counts(tp, fp, fn, total - tp - fp - fn))
    return counts


def mean(values: list[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    return float(np.mean(values)) if values else None
