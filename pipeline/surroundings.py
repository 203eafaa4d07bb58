"""Windows that reach past a volume: what the network is shown where there is nothing to see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Shape, Window

Read = Callable[[Window], NDArray[np.float32]]
"""Gives the normalised voxels of a window inside the volume, (C, *S)."""


def read_padded(read: Read, window: Window, shape: Shape) -> NDArray[np.float32]:
    """Voxels of a window, (C, *S), with 0, the mean, outside the volume.

    What a network that pads with zeros itself is shown.

    Args:
        read: Gives voxels of windows inside the volume.
        window: What is wanted.
        shape: The volume's spatial shape.
    """
    inside = window.clipped(shape)
    voxels = read(inside)
    place = inside.relative_to(window)
    missing = [(a, n - b) for a, b, n in zip(place.start, place.stop, window.shape, strict=True)]
    if not any(before or after for before, after in missing):
        return voxels
    return np.pad(voxels, [(0, 0), *missing])


def read_mirrored(read: Read, window: Window, shape: Shape) -> NDArray[np.float32]:
    """Voxels of a window, (C, *S), of a volume that goes on as its own mirror image.

    What an unpadded network is shown (Ronneberger et al. 2015, overlap-tile). The border voxel
    itself is not repeated, as ``numpy.pad(mode="reflect")``; arguments as :func:`read_padded`.
    """
    places = [
        _mirrored(np.arange(a, b), n)
        for a, b, n in zip(window.start, window.stop, shape, strict=True)
    ]
    start = tuple(int(place.min()) for place in places)
    stop = tuple(int(place.max()) + 1 for place in places)
    voxels = read(Window.between(start, stop))
    for axis, (place, a) in enumerate(zip(places, start, strict=True), start=1):
        voxels = voxels.take(place - a, axis)
    return voxels


def _mirrored(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    period = max(1, 2 * (size - 1))
    folded = places % period
    return np.minimum(folded, period - folded)
