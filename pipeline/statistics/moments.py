"""Means and standard deviations that do not depend on the order of the voxels' boxes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from math import fsum, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Shape


@dataclass(frozen=True)
class Moments:
    """Of a set of voxels."""

    count: int = 0
    """Voxels."""
    mean: float = 0.0
    """Their mean."""
    squares: float = 0.0
    """Sum of their squared deviations from it."""

    @classmethod
    def of(cls, count: int, mean: float, std: float) -> Moments:
        """Of a set whose moments were stored as mean and standard deviation."""
        return cls(count, mean, count * std**2)

    @property
    def std(self) -> float:
        """Standard deviation of the voxels, as ``np.std``."""
        return sqrt(self.squares / max(1, self.count))

    def joined(self, other: Moments) -> Moments:
        """Of both sets together (Chan et al. 1983)."""
        if self.count == 0:
            return other
        total = self.count + other.count
        delta = other.mean - self.mean
        return Moments(
            total,
            self.mean + delta * (other.count / total),
            fsum((self.squares, other.squares, delta**2 * (self.count * other.count / total))),
        )


def measured(values: NDArray[Any]) -> Moments:
    """Moments of values, (n,), one at least."""
    numbers = values.astype(np.float64)
    mean = float(numbers.mean())
    numbers -= mean
    numbers *= numbers
    return Moments(len(numbers), mean, float(numbers.sum()))


def counted(values: NDArray[np.float64], counts: NDArray[np.int64]) -> Moments:
    """Moments of whole numbers that occur so often, exact but for one last rounding.

    Args:
        values: Whole numbers, (n,).
        counts: How often each occurs, (n,).
    """
    # Objects are Python's integers, which know no overflow.
    numbers, times = values.astype(np.int64).astype(object), counts.astype(object)
    count, total = int(counts.sum()), int((numbers * times).sum())
    squares = int((numbers * numbers * times).sum())
    if count == 0:
        return Moments()
    return Moments(count, total / count, (count * squares - total * total) / count)


def joined(parts: Iterable[Moments]) -> Moments:
    """Of all sets together."""
    return reduce(Moments.joined, parts, Moments())


Parts = dict[Shape, Moments]
"""Moments by the first voxel of their box."""


def joined_in_order(parts: Parts) -> Moments:
    """Of all boxes together, the same in whatever order they came."""
    return joined(parts[start] for start in sorted(parts))
