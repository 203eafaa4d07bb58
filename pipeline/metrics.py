"""Integer counts and sums of errors per window, and the scores that follow from them.

Counts are merged by adding, in any order, and give the same score as one pass over whole arrays;
so do sums of errors, but for the last digits of float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np
import torch
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

    @property
    def specificity(self) -> float | None:
        """Give tn / (tn + fp); None where all the truth is of the class."""
        return self.tn / (self.tn + self.fp) if self.tn + self.fp else None


BLOCK = 2**17
"""Voxels that are paired at once: what is between fits a core's cache."""


def confusion(mask: NDArray[Any], truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count label pairs.

    Args:
        mask: Predicted labels, any shape; labels of ``classes`` and above are no data.
        truth: True labels, same shape; labels of ``classes`` and above are not scored.
        classes: Number of classes, K.

    Returns:
        (K, K) counts, truth by row, mask by column, of voxels where both hold a class.
    """
    side = classes + 1  # the last stands for all that is no class
    dtype = np.dtype("uint8" if side**2 <= 2**8 else "int32")
    # An array, because numpy's minimum with a scalar is ten times slower.
    most = np.full(min(BLOCK, mask.size), classes, np.result_type(mask, truth, np.uint8))
    rows, columns = truth.reshape(-1), mask.reshape(-1)
    total = torch.zeros(side**2, dtype=torch.int64)
    for start in range(0, mask.size, BLOCK):
        block = slice(start, start + BLOCK)
        limit = most[: mask.size - start]
        pairs = np.minimum(rows[block], limit).astype(dtype, copy=False)
        pairs *= dtype.type(side)
        pairs += np.minimum(columns[block], limit).astype(dtype, copy=False)
        # Counts bytes as they are, where numpy would make each eight bytes first.
        total += torch.bincount(torch.from_numpy(pairs), minlength=side**2)
    return total.numpy().reshape(side, side)[:classes, :classes].copy()


def class_counts(matrix: NDArray[np.int64]) -> list[Counts]:
    """Each class's counts from a confusion matrix of shape (K, K)."""
    return [region_counts(matrix, (label,)) for label in range(len(matrix))]


def region_counts(matrix: NDArray[np.int64], labels: Sequence[int]) -> Counts:
    """Counts of the union of some classes, from a confusion matrix of shape (K, K)."""
    inside = np.isin(np.arange(len(matrix)), labels)
    tp = int(matrix[inside][:, inside].sum())
    fp, fn = int(matrix[~inside][:, inside].sum()), int(matrix[inside][:, ~inside].sum())
    return Counts(tp, fp, fn, int(matrix.sum()) - tp - fp - fn)


CONSTANT = 1e-12
"""Share of a truth's mean square below which its variance is rounding: float32 cannot hold it."""


@dataclass(frozen=True)
class ErrorSums:
    """Sums over the voxels where both a value and its truth are known; float64."""

    count: int = 0
    """Voxels."""
    absolute: float = 0.0
    """Of |value - truth|."""
    squared: float = 0.0
    """Of (value - truth)²."""
    truth: float = 0.0
    """Of the truth."""
    truth_squared: float = 0.0
    """Of its squares."""

    @classmethod
    def of(cls, values: NDArray[Any], truth: NDArray[Any]) -> Self:
        """Sum up.

        Args:
            values: Predicted values, any shape; NaN is no data.
            truth: True values, same shape; NaN is not scored.
        """
        known = ~(np.isnan(values) | np.isnan(truth))
        told = truth[known].astype(np.float64)
        errors = values[known] - told
        absolute, squared = np.abs(errors).sum(), np.square(errors).sum()
        sums = (absolute, squared, told.sum(), np.square(told).sum())
        return cls(len(told), *map(float, sums))

    @classmethod
    def from_list(cls, numbers: Sequence[float]) -> Self:
        """The sums that ``to_list`` gave, or what such lists add up to."""
        count, *sums = numbers
        return cls(round(count), *map(float, sums))

    def to_list(self) -> list[float]:
        """Count and sums as five floats, in the order of the fields: what processes add up."""
        return [float(number) for number in astuple(self)]

    def __add__(self, other: ErrorSums) -> ErrorSums:
        both = zip(self.to_list(), other.to_list(), strict=True)
        return ErrorSums.from_list([a + b for a, b in both])

    @property
    def mae(self) -> float | None:
        """Mean absolute error; None of nothing."""
        return self.absolute / self.count if self.count else None

    @property
    def mse(self) -> float | None:
        """Mean squared error; None of nothing."""
        return self.squared / self.count if self.count else None

    @property
    def rmse(self) -> float | None:
        """Root of the mean squared error, in the truth's unit; None of nothing."""
        return None if self.mse is None else self.mse**0.5

    @property
    def r2(self) -> float | None:
        """Give 1 - Σ(value - truth)² / Σ(truth - mean)²; None where the truth is constant.

        The share of the truth's variance that is explained: 1 is perfect, 0 as good as its mean,
        and there is no lower bound.
        """
        if not self.count:
            return None
        apart = self.truth_squared - self.truth**2 / self.count
        return None if apart <= CONSTANT * self.truth_squared else 1 - self.squared / apart


def mean(values: list[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    return float(np.mean(values)) if values else None
