"""How often each value occurs, in bounded memory, the same however the voxels were grouped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.keys import keys_of, values_of

_TAIL = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
PERCENTILES = (*_TAIL, *range(10, 91, 5), *(100 - p for p in reversed(_TAIL)))
"""Close enough together that those of many cases tell the percentiles of all; see ``Pooled``."""
SPAN = 2**19
"""Bins from the lowest to the highest value, at most. Floats of every size and both signs still
have 10 bits of mantissa each, bins of 0.1 %; those of one size have 19 and more."""


@dataclass
class Histogram:
    """Counts of sorted, occupied bins; a bin is all keys that differ in their low bits only.

    There are as many low bits as it takes for ``limit`` bins, and ``SPAN``, to be enough. More
    voxels can only take more, so the bins of a case follow from its voxels, not from their order.
    """

    dtype: np.dtype[Any]
    """Type of the values."""
    limit: int
    """Occupied bins, at most."""
    keys: NDArray[np.int32]
    """Keys of the bins, without their low bits, (n,), ascending."""
    counts: NDArray[np.int64]
    """Voxels of each set in each bin, (sets, n)."""
    shift: int = 0
    """Low bits left out; 0: every value is counted exactly."""
    low: int = 2**31
    """Key of the lowest value."""
    high: int = -(2**31) - 1
    """Key of the highest value."""

    @classmethod
    def empty(cls, dtype: np.dtype[Any], limit: int, sets: int) -> Histogram:
        """A histogram of no voxels."""
        return cls(dtype, limit, np.empty(0, np.int32), np.empty((sets, 0), np.int64))

    def merge(self, other: Histogram) -> None:
        """Take in the voxels of another histogram."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        shift = max(self.shift, other.shift)
        keys = [h.keys >> np.int32(shift - h.shift) for h in (self, other)]
        self.keys, self.counts = _united(
            np.concatenate(keys), np.concatenate([self.counts, other.counts], axis=1)
        )
        self.shift = shift
        while len(self.keys) > self.limit or not fits(self.low, self.high, self.shift):
            self.keys, self.counts = _united(self.keys >> np.int32(1), self.counts)
            self.shift += 1

    @property
    def lows(self) -> NDArray[np.float64]:
        """Lowest value of each bin."""
        keys = self.keys.astype(np.int64) << self.shift
        return values_of(np.maximum(keys, self.low), self.dtype)

    @property
    def highs(self) -> NDArray[np.float64]:
        """Highest value of each bin."""
        keys = ((self.keys.astype(np.int64) + 1) << self.shift) - 1
        return values_of(np.minimum(keys, self.high), self.dtype)

    @property
    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest value, exactly."""
        low, high = values_of(np.array([self.low, self.high]), self.dtype)
        return float(low), float(high)

    def percentiles(self, counts: NDArray[np.int64]) -> dict[str, float]:
        """Percentiles of one or more sets, as ``np.percentile`` interpolates them.

        Exact where every value is counted; elsewhere a bin's voxels are taken to lie evenly in it.

        Args:
            counts: Voxels of the sets in each bin, (n,).
        """
        until = np.cumsum(counts)
        place = (until[-1] - 1) * (np.array(PERCENTILES) / 100)
        below = np.floor(place).astype(np.int64)
        ranks = np.stack([below, np.minimum(below + 1, until[-1] - 1)])
        bins = np.searchsorted(until, ranks, side="right")
        inside = (ranks - until[bins] + counts[bins] + 0.5) / counts[bins]
        first, second = self.lows[bins] + (self.highs - self.lows)[bins] * inside
        part, rise = place - below, second - first
        # The two forms, as numpy has them, are exact at both ends.
        found = np.where(part < 0.5, first + rise * part, second - rise * (1 - part))
        return {f"{p:g}": float(v) for p, v in zip(PERCENTILES, found, strict=True)}

    def compact(self, most: int) -> dict[str, list[Any]]:
        """All sets together in a few bins, to be drawn.

        Args:
            most: Bins, at most.

        Returns:
            ``counts``, n of them, exact; ``edges``, n + 1: a bin holds what is not below its
            first edge and below its second, the last one also what equals its second.
        """
        cuts = self._cuts(most)
        totals = np.append(0, np.cumsum(self.counts.sum(axis=0)))
        until = totals[np.searchsorted(self.keys, cuts)]
        edges = values_of(np.clip(cuts << self.shift, self.low, self.high + 1), self.dtype)
        if self.dtype.kind == "f":
            return {"edges": [*edges[:-1].tolist(), self.extremes[1]], "counts": _steps(until)}
        return {"edges": edges.astype(np.int64).tolist(), "counts": _steps(until)}

    def _cuts(self, most: int) -> NDArray[np.int64]:
        """Keys of the bins that begin a compact bin, and the one after the last bin."""
        from_key, to_key = self.low >> self.shift, (self.high >> self.shift) + 1
        if self.dtype.kind != "f":
            width = -(-(to_key - from_key) // most)
            count = -(-(to_key - from_key) // width)
            return from_key + width * np.arange(count + 1, dtype=np.int64)
        even = np.linspace(*self.extremes, most + 1)[1:-1].astype(np.float32)
        inner = keys_of(even, self.dtype).astype(np.int64) >> self.shift
        return np.unique(np.concatenate([[from_key], inner, [to_key]]))


def fits(low: int, high: int, shift: int) -> bool:
    """Whether keys from ``low`` to ``high`` fill no more than ``SPAN`` bins."""
    return (high >> shift) - (low >> shift) < SPAN


def _united(
    keys: NDArray[np.int32], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Bins in order, those of one key added up."""
    if len(keys) == 0:
        return keys, counts
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[:, order]
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[first], np.add.reduceat(counts, first, axis=1)


def _steps(until: NDArray[np.int64]) -> list[int]:
    steps: list[int] = np.diff(until).tolist()
    return steps
