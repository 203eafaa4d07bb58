"""Coarser voxels of pyramids: blocks of voxels made into one.

Work goes slab by slab, so that what it needs besides the result stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.space import Shape, aligned_windows

Reduce = Literal["mean", "mode"]
# Of finer voxels: their sums, as int32, just fill the caches of today's cores.
SLAB_VOXELS = 2**19


def downsample(
    values: NDArray[Any],
    factors: Shape,
    reduce: Reduce,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Make blocks of voxels into one.

    Args:
        values: (..., *S), spatial sizes multiples of ``factors``.
        factors: Block size on each spatial axis, 1 or 2.
        reduce: ``mean`` (missing values left out, integers rounded, halves to even) or ``mode``
            (the commonest label; of equally common ones the one met first).
        valid: Where there is data, (*S); None: everywhere. A mean leaves the other voxels out,
            but is the mean of all where a block has no data at all. A mode counts every label.

    Returns:
        (..., *S / factors), same dtype.

    Raises:
        StoreError: A factor is neither 1 nor 2.
    """
    lead = values.shape[: values.ndim - len(factors)]
    coarser = _coarser(values.shape[len(lead) :], factors)
    result = np.empty((*lead, *coarser), values.dtype)
    for fine, coarse in _slabs(coarser, factors, prod(lead)):
        part = values[_last_axes(fine)]
        if reduce == "mode":
            result[_last_axes(coarse)] = _mode(part, factors)
        else:
            told = None if valid is None else valid[fine]
            result[_last_axes(coarse)] = _mean(part, factors, told)
    return result


def _coarser(shape: Shape, factors: Shape) -> Shape:
    if not all(f in (1, 2) and n % f == 0 for n, f in zip(shape, factors, strict=True)):
        raise StoreError(
            f"voxels of {shape} in blocks of {factors}: a pyramid keeps or halves each axis, and "
            "the blocks fill it; pad the voxels first"
        )
    return tuple(n // f for n, f in zip(shape, factors, strict=True))


Box = tuple[slice, ...]


def _last_axes(box: Box) -> Any:
    """An index that cuts a box out of an array's last axes."""
    return (..., *box)


def _slabs(coarser: Shape, factors: Shape, lead: int) -> Iterator[tuple[Box, Box]]:
    """Boxes of the finer voxels with the boxes of the coarser ones they become."""
    room = SLAB_VOXELS // max(1, lead * prod(factors))
    step = list(coarser)
    for axis in range(len(step)):
        step[axis] = min(step[axis], max(1, room // max(1, prod(step[axis + 1 :]))))
    for window in aligned_windows(coarser, tuple(max(1, s) for s in step)):
        ends = zip(window.start, window.stop, factors, strict=True)
        yield tuple(slice(a * f, b * f) for a, b, f in ends), window.slices


def _halvings(ndim: int, factors: Shape) -> Iterator[tuple[Box, Box]]:
    """Of each axis to halve, in order: its even and its odd places."""
    for axis, factor in enumerate(factors, start=ndim - len(factors)):
        if factor == 2:
            before = (slice(None),) * axis
            yield (*before, slice(0, None, 2)), (*before, slice(1, None, 2))


def _mean(values: NDArray[Any], factors: Shape, valid: NDArray[np.bool_] | None) -> NDArray[Any]:
    total = values.astype(_sum_dtype(values.dtype))
    with np.errstate(invalid="ignore"):  # of infinities of both signs: their block is done anew
        for first, second in _halvings(values.ndim, factors):
            total = total[first] + total[second]
    partial = np.zeros(total.shape, np.bool_)  # blocks of which some voxels count, others not
    if np.issubdtype(values.dtype, np.floating):
        np.isfinite(total, out=partial)
        np.logical_not(partial, out=partial)
    if valid is not None and not valid.all():
        partial |= _some_but_not_all(valid, factors)
    result: NDArray[Any] = _divided(total, prod(factors), values.dtype)
    if partial.any():
        result[partial] = _mean_of_present(values, factors, valid, partial)
    return result


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A type that holds the sum of a block's eight voxels exactly, as far as there is one."""
    if np.issubdtype(dtype, np.floating) or dtype.itemsize == 8:
        return np.dtype(np.float64)
    return np.dtype({1: np.int16, 2: np.int32, 4: np.int64}[dtype.itemsize])


def _divided(total: NDArray[Any], count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Sums of ``count`` voxels, a power of two, as means of the voxels' own type."""
    if np.issubdtype(total.dtype, np.floating):
        total /= count
        whole = np.issubdtype(dtype, np.integer)
        return (np.rint(total) if whole else total).astype(dtype)
    if count > 1:
        # A shift rounds down. Half of the count, added before, makes it round to the nearest;
        # one less where the quotient is even, which is what a half then stays at.
        bits = count.bit_length() - 1
        odd = total >> bits
        odd &= 1
        total += odd
        total += (count >> 1) - 1
        total >>= bits
    return total.astype(dtype)


def _some_but_not_all(valid: NDArray[np.bool_], factors: Shape) -> NDArray[np.bool_]:
    some = every = valid
    for first, second in _halvings(valid.ndim, factors):
        some, every = some[first] | some[second], every[first] & every[second]
    return some & ~every


def _mean_of_present(
    values: NDArray[Any],
    factors: Shape,
    valid: NDArray[np.bool_] | None,
    blocks: NDArray[np.bool_],
) -> NDArray[Any]:
    """Means of the chosen blocks, (m,), over their voxels that are finite and valid."""
    voxels = _block_voxels(values, factors, blocks).astype(_sum_dtype(values.dtype))  # (n, m)
    present = np.isfinite(voxels)
    if valid is not None:
        told = _block_voxels(np.broadcast_to(valid, values.shape), factors, blocks)
        present &= told | ~told.any(axis=0)
    count = present.sum(axis=0)
    total = np.where(present, voxels, 0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    whole = not np.issubdtype(values.dtype, np.floating)
    result: NDArray[Any] = (np.rint(mean) if whole else mean).astype(values.dtype)
    return result


def _block_voxels(values: NDArray[Any], factors: Shape, blocks: NDArray[np.bool_]) -> NDArray[Any]:
    """The voxels of the chosen blocks, (voxels of a block, m), in the array's order."""
    picked = []
    for corner in product(*[range(f) for f in factors]):
        places = tuple(slice(a, None, f) for a, f in zip(corner, factors, strict=True))
        picked.append(values[_last_axes(places)][blocks])
    return np.stack(picked)


def _mode(values: NDArray[Any], factors: Shape) -> NDArray[Any]:
    """The commonest label of each block: votes are counted only where labels differ."""
    first_met = values
    mixed = None
    for first, second in _halvings(values.ndim, factors):
        differ = first_met[first] != first_met[second]
        if mixed is not None:
            differ |= mixed[first]
            differ |= mixed[second]
        first_met, mixed = first_met[first], differ
    result = first_met.copy()
    if mixed is not None and mixed.any():
        voxels = _block_voxels(values, factors, mixed)  # (n, m)
        votes = np.stack([(voxels == voxel).sum(axis=0, dtype=np.uint8) for voxel in voxels])
        result[mixed] = np.take_along_axis(voxels, votes.argmax(axis=0)[None], axis=0)[0]
    return result
