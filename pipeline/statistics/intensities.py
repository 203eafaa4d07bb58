"""What one channel's values are like: in all voxels, in those not 0, in those of the foreground."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Shape, aligned_windows
from pipeline.statistics.histogram import Histogram, fits
from pipeline.statistics.keys import PIECE_VOXELS, counted_dtype, is_narrow, keys_of, tally
from pipeline.statistics.moments import Moments, Parts, counted, joined_in_order, measured

# Of floats and of 32-bit integers; narrower types have no more values than this.
BINS = 2**16
BINS_OF_CASE = 2**21
"""Bins of all channels together, 20 bytes each, where there are so many channels."""
DRAWN_BINS = 256
DRAWN_BINS_OF_CASE = 4096


class Piece(NamedTuple):
    """Some voxels of a box."""

    values: NDArray[Any]
    """(n,)."""
    foreground: NDArray[np.bool_] | None
    """Which are foreground, (n,); None: none is."""
    nonzero: NDArray[np.bool_] | None
    """Which have a channel that is not 0, (n,); None: all."""


@dataclass(frozen=True)
class Foreground:
    """Which labels are foreground."""

    classes: int
    """Labels from here on are no class."""
    background: int | None
    """The class that is none; None: every class is foreground."""

    def among(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of these labels are foreground."""
        found: NDArray[np.bool_] = labels < self.classes
        if self.background is not None:
            found &= labels != self.background
        return found


@dataclass(frozen=True)
class Box:
    """One channel of a box of voxels."""

    values: NDArray[Any]
    """(*S)."""
    valid: NDArray[np.bool_] | None
    """Where there is data, (*S); None: everywhere."""
    labels: NDArray[Any] | None
    """Labels, (*S); None where the case has no truth."""
    foreground: Foreground
    """What of the labels is foreground."""
    nonzero: NDArray[np.bool_] | None = None
    """Where any channel is not 0, (*S); None: everywhere."""
    zeros: int = 0
    """Valid voxels where none is."""

    def pieces(self) -> Iterator[Piece]:
        """The valid voxels, in pieces that fit the cache."""
        for place in _pieces(self.values.shape):
            values = self.picked(self.values, place)
            if len(values) == 0:
                continue
            inside = None
            if self.labels is not None:
                inside = self.foreground.among(self.picked(self.labels, place))
                inside = inside if inside.any() else None
            some = None if self.nonzero is None else self.picked(self.nonzero, place)
            yield Piece(values, inside, some)

    def picked(self, array: NDArray[Any], place: tuple[slice, ...]) -> NDArray[Any]:
        """What an array, (*S), holds at the valid voxels of a piece, (n,)."""
        told = None if self.valid is None else self.valid[place]
        return array[place].reshape(-1) if told is None or told.all() else array[place][told]


def _pieces(shape: Shape) -> Iterator[tuple[slice, ...]]:
    step = list(shape)
    for axis in range(len(step)):
        step[axis] = max(1, min(step[axis], PIECE_VOXELS // max(1, prod(shape[axis + 1 :]))))
    return (window.slices for window in aligned_windows(shape, tuple(step)))


class Intensities:
    """Collects the values of one channel.

    Args:
        dtype: Type of the image's voxels.
        channels: Channels of the image, which share the memory there is for bins.
        labelled: Whether some voxels are known to be foreground.
    """

    def __init__(self, dtype: np.dtype[Any], channels: int, *, labelled: bool) -> None:
        self._dtype = counted_dtype(dtype)
        self._narrow = is_narrow(self._dtype)
        limit = BINS if self._narrow else min(BINS, BINS_OF_CASE // channels)
        self._histogram = Histogram.empty(self._dtype, limit, 2 if labelled else 1)
        self._drawn_bins = max(32, min(DRAWN_BINS, DRAWN_BINS_OF_CASE // channels))
        self._zeros = 0
        self._nonzero_parts: Parts = {}
        self._foreground_parts: Parts = {}

    def add(self, start: Shape, box: Box) -> None:
        """Take in a box with at least one valid voxel, whose first voxel is at ``start``."""
        self._histogram.merge(_counted(box, self._dtype, self._histogram))
        self._zeros += box.zeros
        if not self._narrow:
            self._nonzero_parts[start], self._foreground_parts[start] = _measured(box)

    def merge(self, other: Intensities) -> None:
        """Take in what another collected from other boxes."""
        self._histogram.merge(other._histogram)
        self._zeros += other._zeros
        self._nonzero_parts |= other._nonzero_parts
        self._foreground_parts |= other._foreground_parts

    def to_json(self) -> dict[str, Any]:
        """Of all voxels: mean, std, min, max, percentiles, histogram."""
        counts = self._histogram.counts.sum(axis=0)
        moments = self._moments(counts, self._nonzero_parts)
        if not self._narrow:
            # Zeros come last: joined to them moments keep their digits, parted from them not.
            moments = moments.joined(Moments(self._zeros))
        low, high = self._histogram.extremes
        return {
            "mean": moments.mean,
            "std": moments.std,
            "min": low,
            "max": high,
            "percentiles": self._histogram.percentiles(counts) | {"0": low, "100": high},
            "histogram": self._histogram.compact(self._drawn_bins),
        }

    def nonzero_to_json(self) -> dict[str, Any]:
        """Of voxels of which any channel is not 0, one at least: voxels, mean, std."""
        counts = self._histogram.counts.sum(axis=0)
        if self._narrow:
            counts[self._histogram.lows == 0] -= self._zeros
        moments = self._moments(counts, self._nonzero_parts)
        return {"voxels": moments.count, "mean": moments.mean, "std": moments.std}

    def foreground_to_json(self) -> dict[str, Any]:
        """Of foreground voxels, one at least: voxels, mean, std, percentiles."""
        counts = self._histogram.counts[1]
        moments = self._moments(counts, self._foreground_parts)
        return {
            "voxels": moments.count,
            "mean": moments.mean,
            "std": moments.std,
            "percentiles": self._histogram.percentiles(counts),
        }

    def _moments(self, counts: NDArray[np.int64], parts: Parts) -> Moments:
        if self._narrow:
            return counted(self._histogram.lows, counts)
        return joined_in_order(parts)


def _counted(box: Box, dtype: np.dtype[Any], known: Histogram) -> Histogram:
    """The histogram of a box, its bins no narrower than those of what is known already."""
    low, high = _limits(box, dtype)
    shift = known.shift
    while not fits(low, high, shift):
        shift += 1
    first, size = low >> shift, (high >> shift) - (low >> shift) + 1
    table = np.zeros((len(known.counts), size), np.int64)
    for values, foreground, _ in box.pieces():
        rows = keys_of(values, dtype)
        if shift > 0:
            rows >>= np.int32(shift)
        rows -= np.int32(first)
        if foreground is None:
            table[0] += tally(rows, size)
        else:
            rows += np.multiply(foreground, np.int32(size), dtype=np.int32)
            table += tally(rows, table.size).reshape(table.shape)
    occupied = np.flatnonzero(table.any(axis=0))
    keys = (occupied + first).astype(np.int32)
    if shift == 0:
        low, high = int(keys[0]), int(keys[-1])
    return Histogram(dtype, known.limit, keys, table[:, occupied], shift, low, high)


def _limits(box: Box, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Keys between which those of all values lie: of wide types, the lowest and the highest."""
    if dtype == np.bool_:
        return 0, 1
    if is_narrow(dtype):
        limits = np.iinfo(dtype)
        return int(limits.min), int(limits.max)
    lows, highs = [], []
    for place in _pieces(box.values.shape):
        values = box.picked(box.values, place)
        if len(values) == 0:
            continue
        # The order of integers is that of their keys; of floats, only their keys order a NaN.
        keys = keys_of(values, dtype) if dtype.kind == "f" else values
        ends = np.array([keys.min(), keys.max()])
        low, high = ends if dtype.kind == "f" else keys_of(ends, dtype)
        lows.append(int(low))
        highs.append(int(high))
    return min(lows), max(highs)


def _measured(box: Box) -> tuple[Moments, Moments]:
    """Of the voxels of which any channel is not 0, and of the foreground's."""
    nonzero, foreground = Moments(), Moments()
    for values, inside, some in box.pieces():
        kept = values if some is None else values[some]
        if len(kept) > 0:
            nonzero = nonzero.joined(measured(kept))
        if inside is not None:
            foreground = foreground.joined(measured(values[inside]))
    return nonzero, foreground
