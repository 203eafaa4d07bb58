"""Statistics of a case, gathered window by window while it is ingested.

Sums are merged exactly. Samples keep the voxels whose hashed position is lowest, which is the
same set however the volume is cut into windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Shape, Volume, Window

PERCENTILES = (0.5, 1.0, 5.0, 50.0, 95.0, 99.0, 99.5)
INTENSITIES = 10_000
"""Voxels sampled for percentiles, as many as nnU-Net takes of each case."""
POSITIONS = 256
"""Voxel positions kept of each class: what patches are centred on."""


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of each channel, mergeable (Chan et al. 1983)."""

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    def add(self, values: NDArray[Any]) -> None:
        """Take in values of shape (C, n)."""
        n = values.shape[1]
        if n == 0:
            return
        mean = values.mean(axis=1, dtype=np.float64)
        squares = np.square(values - mean[:, None]).sum(axis=1, dtype=np.float64)
        total = self.count + n
        delta = mean - self.mean
        self.squares = self.squares + squares + delta**2 * (self.count * n / total)
        self.mean = self.mean + delta * (n / total)
        self.count = total


@dataclass
class Sample:
    """The ``size`` items of lowest hashed position."""

    size: int
    ranks: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    items: NDArray[Any] | None = None

    def add(self, positions: NDArray[np.int64], items: NDArray[Any]) -> None:
        """Take in items, (n, ...), of flat voxel positions, (n,)."""
        ranks = _hashed(positions)
        if len(ranks) > self.size:
            keep = np.argpartition(ranks, self.size - 1)[: self.size]
            ranks, items = ranks[keep], items[keep]
        known = items[:0] if self.items is None else self.items
        ranks, merged = np.concatenate([self.ranks, ranks]), np.concatenate([known, items])
        order = np.argsort(ranks, kind="stable")[: self.size]
        self.ranks, self.items = ranks[order], merged[order]


class CaseStatistics:
    """Collects a case's statistics.

    Args:
        shape: The volume's spatial shape.
        channels: Number of channels.
        classes: Number of classes; 0 where the case has no truth.
        background: Label of the background, which is left out of the foreground's statistics.
    """

    def __init__(self, shape: Shape, channels: int, classes: int, background: int | None) -> None:
        self._shape = shape
        self._classes = classes
        self._background = background
        self._all = Moments(0, np.zeros(channels), np.zeros(channels))
        self._minimum = np.full(channels, np.inf)
        self._maximum = np.full(channels, -np.inf)
        self._intensities = Sample(INTENSITIES)
        self._foreground = Sample(INTENSITIES)
        self._counts = np.zeros(classes, np.int64)
        self._positions = [Sample(POSITIONS) for _ in range(classes)]

    def add(self, window: Window, volume: Volume, truth: NDArray[Any] | None) -> None:
        """Take in one window.

        Args:
            window: Where the voxels lie in the volume.
            volume: Voxels, (C, *S), and validity.
            truth: Labels, (*S); None where the case has no truth.
        """
        valid = np.ones(window.shape, bool) if volume.valid is None else volume.valid
        places = np.flatnonzero(valid)
        values = volume.array.reshape(len(volume.array), -1)[:, places]  # (C, n)
        if len(places) == 0:
            return
        flat = self._flat(window, places)
        self._all.add(values)
        self._minimum = np.minimum(self._minimum, values.min(axis=1))
        self._maximum = np.maximum(self._maximum, values.max(axis=1))
        self._intensities.add(flat, values.T)
        if truth is not None:
            self._add_truth(truth.reshape(-1)[places], flat, values)

    def _add_truth(
        self, labels: NDArray[Any], flat: NDArray[np.int64], values: NDArray[Any]
    ) -> None:
        known = labels < self._classes
        counts = np.bincount(labels[known], minlength=self._classes)
        self._counts += counts
        for label in np.flatnonzero(counts):
            here = flat[labels == label]
            index = np.stack(np.unravel_index(here, self._shape), axis=1)
            self._positions[label].add(here, index)
        foreground = known if self._background is None else known & (labels != self._background)
        self._foreground.add(flat[foreground], values[:, foreground].T)

    def _flat(self, window: Window, places: NDArray[np.intp]) -> NDArray[np.int64]:
        inside = np.unravel_index(places, window.shape)
        absolute = [i + a for i, a in zip(inside, window.start, strict=True)]
        return np.ravel_multi_index(tuple(absolute), self._shape).astype(np.int64)

    @property
    def valid_voxels(self) -> int:
        """Voxels that hold data."""
        return self._all.count

    def to_json(self) -> dict[str, Any]:
        """The statistics as JSON values.

        Returns:
            ``valid_voxels``; ``channels``: mean, std, min, max, percentiles of each channel;
            ``foreground``: the same of sampled voxels of classes other than the background;
            ``class_voxels``: voxels of each class; ``positions``: sampled indices of each class.
        """
        std = np.sqrt(self._all.squares / max(1, self._all.count))
        percentiles = _percentiles(self._intensities)
        channels = [
            {
                "mean": float(self._all.mean[c]),
                "std": float(std[c]),
                "min": float(self._minimum[c]),
                "max": float(self._maximum[c]),
                "percentiles": percentiles[c],
            }
            for c in range(len(std))
        ]
        return {
            "valid_voxels": self._all.count,
            "channels": channels,
            "foreground": _sampled(self._foreground),
            "class_voxels": self._counts.tolist(),
            "positions": [[] if s.items is None else s.items.tolist() for s in self._positions],
        }


def _sampled(sample: Sample) -> list[dict[str, Any]]:
    """Sample statistics of each channel; empty where nothing was sampled."""
    if sample.items is None or len(sample.items) == 0:
        return []
    values = sample.items.astype(np.float64)
    percentiles = _percentiles(sample)
    return [
        {
            "voxels": len(values),
            "mean": float(values[:, c].mean()),
            "std": float(values[:, c].std()),
            "percentiles": percentiles[c],
        }
        for c in range(values.shape[1])
    ]


def _percentiles(sample: Sample) -> list[dict[str, float]]:
    assert sample.items is not None
    table = np.percentile(sample.items.astype(np.float64), PERCENTILES, axis=0)  # (P, C)
    return [
        {f"{p:g}": float(v) for p, v in zip(PERCENTILES, column, strict=True)} for column in table.T
    ]


def _hashed(positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A pseudo-random rank of each position (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = positions.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
