"""Voxels of a planned window, from the native voxels around it.

A window of any size gives the voxels that the whole volume would give there, to the last bit, so
a volume is resampled in blocks and never held whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GridError
from pipeline.space.interpolation import Taps, interpolate
from pipeline.space.resampling import Resampling, changed_axes
from pipeline.space.volume import Volume
from pipeline.space.window import Shape, Window

CHUNK_POINTS = 2**14
"""Scattered voxels gathered at once: their neighbours stay in a core's own cache."""


def resample_image(volume: Volume, resampling: Resampling, window: Window) -> Volume:
    """The image of a planned window.

    A voxel is valid where the native voxel nearest to it is. What has no data never reaches one
    that has: where the kernel meets it, the mean of the valid ones among the nearest voxels is
    taken, with linear weights. (The cubic kernel's weights, some of which are negative, may sum
    to nothing or less once some of them are left out.)

    Args:
        volume: The native voxels of ``resampling.native_window(window)``, (C, *S), any dtype.
        resampling: The two grids.
        window: Inside the planned grid.

    Returns:
        (C, *window) in float32, 0 where there is no data. Where the two grids are one, the volume
        as it came. Cubic interpolation may exceed the range of its voxels near steep edges.

    Raises:
        GridError: The volume is not of that window.
    """
    native = _native_window(volume.grid.shape, resampling, window)
    if resampling.is_identity:
        return volume
    taps = _relative(resampling.image_taps(window), native)
    grid = resampling.planned.cropped(window)
    array = volume.array.astype(np.float32)
    if volume.valid is None:
        return Volume(_separable(array, taps, resampling), grid)
    array[:, ~volume.valid] = 0
    result = _separable(array, taps, resampling)
    valid = _nearest(volume.valid, resampling, native, window)
    result[:, ~valid] = 0
    rim = valid & ~_every(volume.valid, taps)
    linear = _relative(resampling.label_taps(window), native)
    _fill_from_valid(result, rim, array, volume.valid, linear)
    return Volume(result, grid, None if valid.all() else valid)


def resample_valid(
    valid: NDArray[np.bool_], resampling: Resampling, window: Window
) -> NDArray[np.bool_]:
    """Where a planned window has data: where the native voxel nearest to a voxel has.

    Args:
        valid: Of the native voxels of ``resampling.native_window(window)``.
        resampling: The two grids.
        window: Inside the planned grid.

    Raises:
        GridError: ``valid`` is not of that window.
    """
    native = _native_window(valid.shape, resampling, window)
    return _nearest(valid, resampling, native, window)


def resample_labels(
    labels: NDArray[Any], resampling: Resampling, window: Window, no_label: int
) -> NDArray[Any]:
    """The labels of a planned window: the class with the largest share, by linear weights.

    The shares are those of one-hot labels interpolated linearly, in whole numbers, so that equal
    ones are equal; the lower label then wins. Only voxels between labels are looked at, at a cost
    that does not grow with the number of classes.

    Args:
        labels: Native labels of ``resampling.native_window(window)``, (*S), any integer type.
        resampling: The two grids.
        window: Inside the planned grid.
        no_label: The label that says nothing. It stands where the nearest native voxel has it,
            and has no share elsewhere.

    Returns:
        (*window) in the same type.

    Raises:
        GridError: ``labels`` are not of that window.
    """
    native = _native_window(labels.shape, resampling, window)
    if resampling.is_identity:
        return labels
    taps = _relative(resampling.label_taps(window), native)
    result = _nearest(labels, resampling, native, window)
    low, high = labels, labels
    for axis, along in enumerate(taps):
        low = _reduced(np.minimum, low, axis, along)
        high = _reduced(np.maximum, high, axis, along)
    between = (low != high) & (result != no_label)
    flat, shape = result.reshape(-1), resampling.planned.shape
    for points in _chunks(between):
        flat[points] = _winners(labels, taps, points, no_label, shape)
    return result


def _native_window(shape: Shape, resampling: Resampling, window: Window) -> Window:
    native = resampling.native_window(window)
    if tuple(shape) != native.shape:
        raise GridError(
            f"voxels of shape {tuple(shape)} cannot be resampled to {window.start}..{window.stop}: "
            f"it is made of {native.start}..{native.stop}, which Resampling.native_window() gives"
        )
    return native


def _relative(taps: Sequence[Taps], window: Window) -> list[Taps]:
    return [t.relative_to(first) for t, first in zip(taps, window.start, strict=True)]


def _separable(
    array: NDArray[np.float32], taps: Sequence[Taps], resampling: Resampling
) -> NDArray[np.float32]:
    """Interpolate (C, *S) axis by axis."""
    for axis in changed_axes(resampling.native.shape, resampling.planned.shape):
        array = interpolate(array, axis + 1, taps[axis])
    return array


def _nearest(
    values: NDArray[Any], resampling: Resampling, native: Window, window: Window
) -> NDArray[Any]:
    """The native voxels nearest to those of a planned window."""
    for axis, index in enumerate(resampling.nearest(window)):
        values = values.take(index - native.start[axis], axis=axis)
    return values


def _reduced(combine: np.ufunc, values: NDArray[Any], axis: int, taps: Taps) -> NDArray[Any]:
    """The smallest (or largest) of the voxels that each target voxel is made of."""
    result = values.take(taps.index[:, 0], axis=axis)
    for t in range(1, taps.index.shape[1]):
        combine(result, values.take(taps.index[:, t], axis=axis), out=result)
    return result


def _every(valid: NDArray[np.bool_], taps: Sequence[Taps]) -> NDArray[np.bool_]:
    """Whether all voxels that a target voxel is made of are valid."""
    for axis, along in enumerate(taps):
        valid = _reduced(np.logical_and, valid, axis, along)
    return valid


def _chunks(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Flat indices of the voxels where a mask is true, some at a time."""
    flat = np.flatnonzero(mask)
    for a in range(0, len(flat), CHUNK_POINTS):
        yield flat[a : a + CHUNK_POINTS]


def _corners(
    taps: Sequence[Taps], weights: Sequence[NDArray[Any]], points: NDArray[np.int64], shape: Shape
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """The voxels that scattered target voxels are made of, one of each at a time, and weights.

    Args:
        taps: Into an array of ``shape``, axis by axis.
        weights: Of these taps, axis by axis.
        points: Flat indices of target voxels.
        shape: Of the source.
    """
    places = np.unravel_index(points, tuple(len(t.index) for t in taps))
    axes = [
        [(along.index[place, t], w[place, t]) for t in range(w.shape[1])]
        for along, w, place in zip(taps, weights, places, strict=True)
    ]
    for corner in product(*axes):
        flat, weight = corner[0]
        for n, (index, factor) in zip(shape[1:], corner[1:], strict=True):
            flat, weight = flat * n + index, weight * factor
        yield flat, weight


def _fill_from_valid(
    result: NDArray[np.float32],
    rim: NDArray[np.bool_],
    array: NDArray[np.float32],
    valid: NDArray[np.bool_],
    taps: Sequence[Taps],
) -> None:
    """Set the voxels of ``rim`` to the weighted mean of the valid ones of their nearest voxels."""
    target, source = result.reshape(len(result), -1), array.reshape(len(array), -1)
    known, weights = valid.reshape(-1), [t.weight for t in taps]
    for points in _chunks(rim):
        total, share = np.zeros((len(source), len(points))), np.zeros(len(points))
        for flat, weight in _corners(taps, weights, points, valid.shape):
            counted = weight * known[flat]
            total += counted * source[:, flat]
            share += counted
        # Never 0: the nearest voxel is valid, and its weight is not 0.
        target[:, points] = total / share


def _winners(
    labels: NDArray[Any], taps: Sequence[Taps], points: NDArray[np.int64], no_label: int, n: Shape
) -> NDArray[Any]:
    """The label with the largest share of each of some scattered voxels; ``n``: planned shape."""
    # Linear weights are whole numbers of 2 * n-ths: so counted, shares add up exactly.
    whole = [np.rint(t.weight * 2 * m).astype(np.int64) for t, m in zip(taps, n, strict=True)]
    source = labels.reshape(-1)
    corners = [(source[flat], w) for flat, w in _corners(taps, whole, points, labels.shape)]
    winner = np.full(len(points), no_label, labels.dtype)
    most = np.zeros(len(points), np.int64)
    for candidate, _ in corners:
        share = np.zeros_like(most)
        for label, weight in corners:
            share += np.where(label == candidate, weight, 0)
        better = (share > most) | ((share == most) & (candidate < winner))
        better &= candidate != no_label
        most[better], winner[better] = share[better], candidate[better]
    return winner
