"""Integer keys of voxel values, in the values' own order, and how many voxels have each.

The key of an integer is itself (of uint32: less 2³¹). The key of a float is its bit pattern read
as an integer, of a negative one turned round: cutting low bits off keys then makes bins of equal
relative width, 2⁻ᵐ where m bits of the mantissa are left (as in HdrHistogram).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import csc_array

_INTEGERS = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32")
_MAGNITUDE = np.int32(0x7FFFFFFF)
_HALF = 2**31

PIECE_VOXELS = 2**19
"""Voxels handled at a time: enough to make numpy's calls cheap, few enough to stay in cache."""
_ONES = np.ones(PIECE_VOXELS, np.int32)


def counted_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The type whose values are counted: an integer's own up to 32 bits, else float32."""
    return np.dtype(dtype) if np.dtype(dtype).name in _INTEGERS else np.dtype(np.float32)


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether a type has so few values that each is counted exactly."""
    return dtype.kind in "bui" and dtype.itemsize <= 2


def keys_of(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.int32]:
    """Keys of values, same shape, a new array.

    Args:
        values: Of any type.
        dtype: Their ``counted_dtype``.
    """
    if dtype == np.uint32:
        return (values ^ np.uint32(_HALF)).view(np.int32)
    if dtype.kind != "f":
        return values.astype(np.int32)
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    keys = bits >> np.int32(31)
    keys &= _MAGNITUDE
    keys ^= bits
    return keys


def values_of(keys: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Values of keys: what ``keys_of`` undoes."""
    if dtype == np.uint32:
        return keys.astype(np.float64) + _HALF
    if dtype.kind != "f":
        return keys.astype(np.float64)
    whole = keys.astype(np.int32)
    bits = whole ^ ((whole >> np.int32(31)) & _MAGNITUDE)
    return bits.view(np.float32).astype(np.float64) + 0.0  # + 0.0 makes -0.0 a plain zero


def tally(rows: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """How often each of 0 … ``size`` - 1 occurs in ``rows``, (n,), n at most ``PIECE_VOXELS``.

    A sparse column of ones that is multiplied by one: SciPy adds up what falls into the same row.
    It needs half the time and memory of ``np.bincount``, and other threads run meanwhile.
    """
    ends = np.array([0, len(rows)], np.int32)
    column = csc_array((_ONES[: len(rows)], rows, ends), shape=(size, 1))
    counts: NDArray[np.int32] = column @ _ONES[:1]
    return counts
