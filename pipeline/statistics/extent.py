"""The voxels that are not zero in every channel, and the box that holds them all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Window


def nonzero_window(array: NDArray[Any], valid: NDArray[np.bool_] | None) -> Window | None:
    """The smallest window around the voxels of which any channel is not zero.

    Args:
        array: Voxels, (C, *S).
        valid: Where there is data, (*S), other voxels do not count; None: everywhere.

    Returns:
        The window; None where every voxel is zero.
    """
    if all(
        _any_on_face(array, valid, axis, end) for axis in range(array.ndim - 1) for end in (0, -1)
    ):
        return Window.whole(array.shape[1:])
    # A float's first bit is its sign, which a zero may have too.
    counting = 2 ** (8 * array.itemsize - (array.dtype.kind == "f")) - 1
    found = [_lines(_bits(channel, valid), counting) for channel in array]
    lines = [np.logical_or.reduce(of_axis) for of_axis in zip(*found, strict=True)]
    places = [np.flatnonzero(line) for line in lines]
    if len(places[0]) == 0:
        return None
    return Window.between(tuple(int(p[0]) for p in places), tuple(int(p[-1]) + 1 for p in places))


def nonzero_voxels(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Where any channel is not zero, (*S).

    Args:
        array: Voxels, (C, *S).
    """
    found: NDArray[np.bool_] = array[0] != 0
    for channel in array[1:]:
        found |= channel != 0
    return found


def _any_on_face(array: NDArray[Any], valid: NDArray[np.bool_] | None, axis: int, end: int) -> bool:
    place = (slice(None),) * axis + (end,)
    face = array[(slice(None), *place)] != 0
    return bool(face.any() if valid is None else (face & valid[place]).any())


def _bits(channel: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Bit patterns, 0 where there is no data: or-ing bits is much faster than comparing values."""
    bits = channel.view(f"u{channel.dtype.itemsize}")
    return bits if valid is None else bits * valid


def _lines(bits: NDArray[Any], counting: int) -> list[NDArray[np.bool_]]:
    """Of each axis, where any voxel of the plane across it has one of the bits that count."""
    plane = np.bitwise_or.reduce(bits, axis=0)
    lines = [np.bitwise_or.reduce(bits, axis=tuple(range(1, bits.ndim)))]
    for axis in range(plane.ndim):
        others = tuple(a for a in range(plane.ndim) if a != axis)
        lines.append(np.bitwise_or.reduce(plane, axis=others))
    return [line & bits.dtype.type(counting) != 0 for line in lines]


def joined(one: Window | None, other: Window | None) -> Window | None:
    """The smallest window around both."""
    if one is None or other is None:
        return one or other
    start = tuple(min(a, b) for a, b in zip(one.start, other.start, strict=True))
    stop = tuple(max(a, b) for a, b in zip(one.stop, other.stop, strict=True))
    return Window.between(start, stop)
