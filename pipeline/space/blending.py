"""Weights with which overlapping tiles are averaged."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.space.window import Shape


@cache
def gaussian_weights(shape: Shape, sigma_fraction: float = 0.125) -> NDArray[np.float32]:
    """Importance of each voxel of a tile: a Gaussian about its centre.

    Networks are less sure near a tile's border, where their view is cut. The weight never falls
    below a thousandth of the centre's, so that a voxel seen only at a border is still defined.
    As in nnU-Net (Isensee et al. 2021) and MONAI's ``sliding_window_inference``.

    Args:
        shape: Tile size in voxels.
        sigma_fraction: Standard deviation as a fraction of the tile's size on each axis.

    Returns:
        Weights in (0, 1], same shape, read-only.
    """
    weights = np.ones((), dtype=np.float64)
    for n in shape:
        offset = np.arange(n, dtype=np.float64) - (n - 1) / 2
        weights = np.multiply.outer(weights, np.exp(-0.5 * (offset / (sigma_fraction * n)) ** 2))
    result: NDArray[np.float32] = np.maximum(weights / weights.max(), 1e-3).astype(np.float32)
    result.setflags(write=False)
    return result
