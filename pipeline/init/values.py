"""The values of one mask, read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.location import scratch
from pipeline.io.opening import open_origin
from pipeline.io.origin import Origin
from pipeline.io.readers import Source
from pipeline.space import Window, aligned_windows

MOST_VALUES = 32
"""Different values of a mask; what holds more is an image."""
READ_BYTES = 64 * 2**20
"""Voxels of a mask in memory."""
TILE = {2: (4096, 4096), 3: (64, 512, 512)}
"""What is read at once where the file has no blocks of its own, by number of axes."""
PLANES = 64
"""Planes of a compressed stream that are read at once."""
PIECE = 2**20


class Values(NamedTuple):
    """What one mask holds."""

    met: NDArray[np.float64]
    """Its different values, in order."""
    declared: NDArray[np.float64]
    """Those of them that its file declares to be no data."""
    size: int
    """Its voxels."""


def holds_labels(origin: Origin) -> bool:
    """Whether an array holds few whole numbers, one per voxel; polygons do."""
    if origin.is_vector:
        return True
    try:
        with scratch() as folder:
            met = values(open_origin(origin, "mask", folder), origin.name).met
    except CaseError:
        return False
    met = met[~np.isnan(met)]
    return 0 < len(met) <= MOST_VALUES and bool(np.all(met == np.rint(met)))


def values(source: Source, name: str) -> Values:
    """Different values of a mask; of an image the first ones beyond a mask's.

    Args:
        source: The open mask.
        name: What it is called.

    Raises:
        CaseError: The file is damaged or no mask.
    """
    if source.channels != 1:
        raise CaseError(f"{name} has {source.channels} channels.", "A mask has one.")
    met: set[float] = set()
    declared: set[float] = set()
    for window in windows(source):
        volume = source.read(window)
        met.update(distinct(volume.array))
        if volume.valid is not None:
            declared.update(distinct(volume.array[0][~volume.valid]))
        if len(met) > MOST_VALUES:
            break
    return Values(_ordered(met), _ordered(declared), prod(source.grid.shape))


def _ordered(values: set[float]) -> NDArray[np.float64]:
    # NaN is equal to nothing, so a set may hold many.
    return np.unique(np.array(list(values), dtype=np.float64))


def distinct(array: NDArray[Any]) -> list[float]:
    """Different values of an array.

    Example:
        >>> distinct(np.array([[3, 3], [-1, 3]], np.int16)), distinct(np.array([0.0, 0.0, 2.0]))
        ([-1, 3], [0.0, 2.0])
    """
    flat = array.reshape(-1)
    if flat.dtype.kind in "iu" and flat.dtype.itemsize <= 2:
        seen = np.zeros(2 ** (8 * flat.dtype.itemsize), dtype=bool)
        bits = flat.view(f"u{flat.dtype.itemsize}")
        for start in range(0, len(bits), PIECE):  # an index takes eight bytes a voxel
            seen[bits[start : start + PIECE]] = True
        return sorted(np.flatnonzero(seen).astype(bits.dtype).view(flat.dtype).tolist())
    # Masks are long runs of one value: sorting the first of each is enough.
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[float] = np.unique(np.concatenate([flat[:1], flat[starts]])).tolist()
    return runs


def windows(source: Source) -> Iterator[Window]:
    """Windows that cover a mask and decode nothing twice, as far as memory allows."""
    shape, block = source.grid.shape, source.block
    if source.sequential:
        plane = prod(shape[1:]) * source.dtype.itemsize
        depth = max(1, min(PLANES, READ_BYTES // plane))
        return iter(aligned_windows(shape, (depth, *shape[1:])))
    tile = tuple(min(t, n) for t, n in zip(TILE[len(shape)], shape, strict=True))
    step = [-(-t // b) * b for t, b in zip(tile, block, strict=True)]
    while _bytes(step, source) > READ_BYTES and step[0] > block[0]:
        step[0] = max(block[0], step[0] // 2 // block[0] * block[0])
    fits = _bytes(step, source) <= READ_BYTES
    return iter(aligned_windows(shape, tuple(step) if fits else tile))


def _bytes(step: Sequence[int], source: Source) -> int:
    inside = (min(s, n) for s, n in zip(step, source.grid.shape, strict=True))
    return prod(inside) * source.dtype.itemsize
