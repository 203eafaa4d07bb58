"""Interpolation along one axis: which voxels a new voxel is made of, and with which weights.

Two lengths of an axis are laid over each other by their ends, as skimage's ``resize`` and torch's
``interpolate(align_corners=False)`` lay them: of ``source`` voxels and ``target`` voxels over the
same extent, the centre of target voxel j is at (j + 0.5) · source / target - 0.5 of the source.
Past its ends an axis repeats its last voxel.

Every number that places or weighs a voxel follows from integers, and every voxel is summed in the
same order, so a voxel is the same to the last bit in whatever window it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil, prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal[0, 1, 3]
"""Of an interpolation: 0 takes the nearest voxel, 1 is linear, 3 is cubic convolution."""
KEYS = -0.5
"""Slope of the cubic kernel at its first zero that makes it exact for parabolas (Keys 1981)."""
CHUNK_VOXELS = 2**16
"""Voxels interpolated at once: what is summed stays in a core's own cache."""


@dataclass(frozen=True)
class Taps:
    """What a run of n target voxels is made of."""

    index: NDArray[np.int64]
    """Source voxels of each target voxel, (n, T), inside the source."""
    weight: NDArray[np.float64]
    """Their weights, (n, T); each row sums to 1."""

    @property
    def span(self) -> tuple[int, int]:
        """First source voxel, and one past the last; (0, 0) of no target voxel."""
        if not self.index.size:
            return 0, 0
        return int(self.index.min()), int(self.index.max()) + 1

    def relative_to(self, first: int) -> Taps:
        """The taps into a source that was cut at ``first``."""
        return Taps(self.index - first, self.weight)


def axis_taps(
    source: int,
    target: int,
    start: int,
    stop: int,
    order: Order,
    antialias: bool = False,
    slope: float = KEYS,
) -> Taps:
    """The taps of target voxels ``start`` to ``stop`` of an axis.

    Args:
        source: Length of the source axis, in voxels.
        target: Length of the target axis, in voxels.
        start: First target voxel.
        stop: One past the last.
        order: Kernel. Linear and cubic ones repeat the voxel at an end.
        antialias: Widen the kernel by source / target where there are fewer target voxels than
            source voxels, so that all of these are seen; without effect on order 0.
        slope: The cubic kernel's parameter a.

    Example:
        >>> axis_taps(4, 8, 2, 4, order=1).index.tolist()
        [[0, 1], [1, 2]]
        >>> axis_taps(4, 8, 2, 4, order=1).weight.tolist()
        [[0.25, 0.75], [0.75, 0.25]]
    """
    if order == 0 or source == target:
        index = nearest_voxels(source, target, start, stop)[:, None]
        return Taps(index, np.ones(index.shape))
    # Centres in 2 * target-ths of a source voxel, which are whole.
    centre = (2 * np.arange(start, stop, dtype=np.int64) + 1) * source - target
    below = centre // (2 * target)
    fraction = (centre - below * (2 * target)) / (2 * target)
    scale = max(1.0, source / target) if antialias else 1.0
    kernel, radius = (_triangle, 1) if order == 1 else (partial(_cubic, slope=slope), 2)
    reach = ceil(radius * scale)
    offset = np.arange(1 - reach, reach + 1)
    weight = kernel((offset - fraction[:, None]) / scale)
    if scale > 1:
        weight /= weight.sum(axis=1, keepdims=True)
    return Taps((below[:, None] + offset).clip(0, source - 1), weight)


def nearest_voxels(source: int, target: int, start: int, stop: int) -> NDArray[np.int64]:
    """The source voxel in which each target voxel's centre lies, the later one on a border.

    Example:
        >>> nearest_voxels(6, 4, 0, 4).tolist()
        [0, 2, 3, 5]
    """
    odd = 2 * np.arange(start, stop, dtype=np.int64) + 1
    return np.asarray(odd * source // (2 * target), np.int64)


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(1 - np.abs(distance), 0), np.float64)


def _cubic(distance: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """Cubic convolution: Keys 1981, equation 4 and its general form."""
    x = np.abs(distance)
    near = ((slope + 2) * x - (slope + 3)) * x * x + 1
    far = slope * (((x - 5) * x + 8) * x - 4)
    return np.asarray(np.where(x <= 1, near, np.where(x < 2, far, 0)), np.float64)


def interpolate(array: NDArray[np.float32], axis: int, taps: Taps) -> NDArray[np.float32]:
    """Interpolate an array along one axis.

    Args:
        array: Source voxels, any number of axes; finite.
        axis: The axis, not negative.
        taps: Into that axis.

    Returns:
        The array with n voxels on that axis, bit-equal however the array is cut.
    """
    before, size, after = array.shape[:axis], array.shape[axis], array.shape[axis + 1 :]
    count, outer, inner = len(taps.index), prod(before), prod(after)
    source = array.reshape(outer, size, inner)
    result = np.empty((outer, count, inner), np.float32)
    weight = taps.weight.astype(np.float32)
    rows = max(1, min(count, CHUNK_VOXELS // max(1, inner)))
    slabs = max(1, CHUNK_VOXELS // max(1, rows * inner))
    for a in range(0, outer, slabs):
        slab = source[a : a + slabs]
        if inner == 1:
            # Whole rows are picked many times faster than single voxels.
            turned = np.ascontiguousarray(slab.transpose(2, 1, 0))
            result[a : a + slabs] = _weighted(turned, taps.index, weight).transpose(2, 1, 0)
            continue
        for b in range(0, count, rows):
            part = slice(b, b + rows)
            result[a : a + slabs, part] = _weighted(slab, taps.index[part], weight[part])
    return result.reshape(*before, count, *after)


def _weighted(
    source: NDArray[np.float32], index: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weighted sums of planes of the middle axis: (a, n, b) -> (a, rows, b)."""
    # Not a matrix product: BLAS adds in an order that depends on the sizes.
    total = source.take(index[:, 0], axis=1)
    total *= weight[:, 0, None]
    for t in range(1, index.shape[1]):
        term = source.take(index[:, t], axis=1)
        term *= weight[:, t, None]
        total += term
    return total
