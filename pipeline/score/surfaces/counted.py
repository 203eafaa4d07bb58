"""How often each distance occurs: all that their figures need, in little memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Counted:
    """Distances from one surface to another.

    Voxels lie on a lattice, so a few thousand distances occur millions of times. Counts are merged
    by adding, in any order.
    """

    value: NDArray[np.float64]
    """Each distance that occurs, ascending, (n,)."""
    count: NDArray[np.int64]
    """How often, (n,)."""

    @classmethod
    def of(cls, distances: NDArray[np.float64]) -> Counted:
        """Count distances."""
        value, count = np.unique(distances, return_counts=True)
        return cls(value, count.astype(np.int64))

    def __add__(self, other: Counted) -> Counted:
        both = np.concatenate([self.value, other.value])
        value, place = np.unique(both, return_inverse=True)
        count = np.zeros(len(value), np.int64)
        np.add.at(count, place, np.concatenate([self.count, other.count]))
        return Counted(value, count)

    @property
    def total(self) -> int:
        """How many distances there are."""
        return int(self.count.sum())

    @property
    def sum(self) -> float:
        """Of all distances."""
        return float((self.value * self.count).sum())

    def up_to(self, limit: float) -> int:
        """How many are at most ``limit``."""
        return int(self.count[self.value <= limit].sum())

    def percentile(self, percent: float) -> float:
        """The distance that ``percent`` of all do not exceed, between two of them by its share.

        As numpy.percentile does by default, and MONAI's quantile.

        Example:
            >>> Counted.of(np.array([1.0, 2.0, 2.0, 4.0])).percentile(75)
            2.5
        """
        ends = np.cumsum(self.count)
        place = percent / 100 * (ends[-1] - 1)
        # Products such as 0.95 · 20 end beside the whole number they mean.
        place = round(place, 6)
        below, share = int(place), place - int(place)
        low, high = self.value[
            np.searchsorted(ends, [below, min(below + 1, ends[-1] - 1)], "right")
        ]
        return float(low + share * (high - low))
