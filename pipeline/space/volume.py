"""Voxels together with where they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GridError
from pipeline.space.grid import Grid
from pipeline.space.window import Window


@dataclass(frozen=True)
class Volume:
    """A scan or a scene in memory, or a part of one."""

    array: NDArray[Any]
    """Voxels, (C, Z, Y, X) or (C, Y, X), in the source's own dtype."""
    grid: Grid
    """Where the voxels are; its shape is the array's without the channel axis."""
    valid: NDArray[np.bool_] | None = None
    """False where the source has no data, (Z, Y, X) or (Y, X); None: all voxels are data."""

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.grid.shape:
            raise GridError(
                f"voxels of shape {self.array.shape} do not fit a grid of {self.grid.shape}: "
                "arrays are channel-first, (C, Z, Y, X) or (C, Y, X)"
            )
        if self.valid is not None and self.valid.shape != self.grid.shape:
            raise GridError(
                f"a validity mask of shape {self.valid.shape} does not fit {self.grid.shape}"
            )


def crop(volume: Volume, window: Window) -> Volume:
    """Cut a window out of a volume; its grid is shifted with it.

    Args:
        volume: What to cut from.
        window: The box to keep, wholly inside the volume.

    Raises:
        GridError: The window reaches outside the volume.
    """
    if not Window.whole(volume.grid.shape).contains(window):
        raise GridError(
            f"window {window.start}..{window.stop} reaches outside {volume.grid.shape}: "
            "clip it with Window.clipped()"
        )
    valid = None if volume.valid is None else volume.valid[window.slices]
    array = volume.array[(slice(None), *window.slices)]
    return replace(volume, array=array, grid=volume.grid.cropped(window), valid=valid)
