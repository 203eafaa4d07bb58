"""The percentiles of many cases' voxels together, from those of each case alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pooled:
    """Voxels of K cases, as far as n percentiles of each tell of them.

    Between two percentiles a case's voxels are taken to lie evenly, so that its cumulative
    distribution is linear there; that of the dataset is the weighted sum of its cases'. Its
    percentiles are as close to the voxels' own as the known ones of each case allow.
    """

    shares: NDArray[np.float64]
    """Which percentiles are known, in percent, (n,), from 0 to 100."""
    values: NDArray[np.float64]
    """The percentiles of each case, (K, n), no row descends."""
    weights: NDArray[np.float64]
    """Share of each case in the whole, (K,), their sum is 1."""

    @classmethod
    def of(cls, cases: Iterable[tuple[float, Mapping[str, float]]]) -> Pooled:
        """Pool cases.

        Args:
            cases: Weight (voxels) and percentiles of each, as statistics hold them; one at least.
                Those that all cases have count; the outermost stand for what lies beyond.

        Example:
            >>> dark, bright = {"0": 0.0, "100": 10.0}, {"0": 10.0, "100": 30.0}
            >>> Pooled.of([(1, dark), (1, bright)]).percentile(75)
            20.0
        """
        listed = list(cases)
        common = set.intersection(*(set(percentiles) for _, percentiles in listed))
        keys = sorted(common, key=float)
        inner = np.array([[percentiles[k] for k in keys] for _, percentiles in listed])
        weights = np.array([weight for weight, _ in listed], np.float64)
        return cls(
            np.array([0.0, *(float(k) for k in keys), 100.0]),
            np.maximum.accumulate(np.pad(inner, ((0, 0), (1, 1)), "edge"), axis=1),
            weights / weights.sum(),
        )

    def percentile(self, percent: float) -> float:
        """The value below which so many percent of all voxels lie.

        Of one case a percentile that is known is given to the last bit.
        """
        candidates = np.unique(self.values)
        first, last = 0, len(candidates) - 1
        while first < last:
            middle = (first + last) // 2
            if self._up_to(candidates[middle]) >= percent:
                last = middle
            else:
                first = middle + 1
        value, below = candidates[first], self._below(candidates[first])
        if below <= percent or first == 0:
            return float(value)
        # Linear from the candidate before: no case has a percentile between the two.
        before = candidates[first - 1]
        share = self._up_to(before)
        return float(before + (value - before) * (percent - share) / (below - share))

    def clipped(self, lower: float, upper: float) -> tuple[float, float]:
        """Mean and standard deviation of all voxels, once brought within limits."""
        start, stop = self.values[:, :-1], self.values[:, 1:]
        width = np.where(stop > start, stop - start, 1.0)
        weight = self.weights[:, None] * np.diff(self.shares) / 100
        under = weight * (lower - start).clip(0, stop - start) / width
        over = weight * (stop - upper).clip(0, stop - start) / width
        inside = weight - under - over
        a, b = start.clip(lower, upper), stop.clip(lower, upper)
        mean = float((under * lower + over * upper + inside * (a + b) / 2).sum())
        a, b = a - mean, b - mean
        squares = inside * (a * a + a * b + b * b) / 3
        squares += under * (lower - mean) ** 2 + over * (upper - mean) ** 2
        return mean, sqrt(max(0.0, float(squares.sum())))

    def _up_to(self, value: float) -> float:
        """Percent of all voxels that are not above a value."""
        passed = (self.values <= value).sum(axis=1)
        return self._share(value, passed, passed - 1)

    def _below(self, value: float) -> float:
        """Percent of all voxels that are below a value."""
        passed = (self.values < value).sum(axis=1)
        return self._share(value, passed, passed)

    def _share(self, value: float, passed: NDArray[np.int64], known: NDArray[np.int64]) -> float:
        """Percent of all voxels up to a value.

        Args:
            value: Where to.
            passed: How many of each case's percentiles lie before it, (K,).
            known: Which of them tells, where the value lies between no two of them, (K,).
        """
        rows, last = np.arange(len(self.values)), len(self.shares) - 1
        before, after = (passed - 1).clip(min=0), passed.clip(max=last)
        a, b = self.values[rows, before], self.values[rows, after]
        inside = (a < value) & (value < b)
        part = np.where(inside, (value - a) / np.where(inside, b - a, 1.0), 0.0)
        between = self.shares[before] + (self.shares[after] - self.shares[before]) * part
        shares = np.where(inside, between, self.shares[known.clip(0, last)])
        return float((self.weights * shares).sum())
