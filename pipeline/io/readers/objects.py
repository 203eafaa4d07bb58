"""Masks that mark one object each, brought together as numbered instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.source import Source
from pipeline.space import Shape, Volume, Window, crop


class ObjectsSource:
    """One mask file per object, of one image (Data Science Bowl 2018).

    Files are ordered by name; the object of the first is number 1. Where objects overlap, the
    later one keeps the voxel. All are decoded once, one after another, into one label image.

    Args:
        paths: The files; at least one.
        open_one: Opens one of them as a mask.

    Raises:
        CaseError: The first file cannot be used.
    """

    instances = True
    channels = 1
    sequential = False

    def __init__(self, paths: Sequence[Path], open_one: Callable[[Path], Source]) -> None:
        self._paths = sorted(paths, key=lambda path: path.name)
        self._open_one = open_one
        first = open_one(self._paths[0])
        self.grid = first.grid
        self.placed = first.placed
        self.dtype: np.dtype[Any] = np.dtype("uint16" if len(paths) < 2**16 else "uint32")
        self.block: Shape = self.grid.shape
        self._labels: Volume | None = None
        self._overlap = 0
        self._lock = Lock()

    @property
    def overlap(self) -> int:
        """Voxels that more than one object claims."""
        self._whole()
        return self._overlap

    def read(self, window: Window) -> Volume:
        """Object numbers of a window, (1, Z, Y, X) or (1, Y, X); 0 where there is none.

        Raises:
            CaseError: A file is damaged, or of another size than the first.
        """
        return crop(self._whole(), window)

    def _whole(self) -> Volume:
        with self._lock:
            if self._labels is None:
                self._labels = self._numbered()
        return self._labels

    def _numbered(self) -> Volume:
        labels: NDArray[Any] = np.zeros(self.grid.shape, self.dtype)
        shared = np.zeros(self.grid.shape, bool)
        for number, path in enumerate(self._paths, start=1):
            marked = self._marked(path)
            shared |= marked & (labels > 0)
            labels[marked] = number
        self._overlap = int(np.count_nonzero(shared))
        return Volume(labels[None], self.grid)

    def _marked(self, path: Path) -> NDArray[np.bool_]:
        source = self._open_one(path)
        if source.grid.shape != self.grid.shape or source.channels != 1:
            raise CaseError(
                f"{path.name} has shape {source.grid.shape} and {source.channels} channels: the "
                f"other masks of its image have {self.grid.shape} and 1.",
                "Save the masks of one image at its own size.",
            )
        mask = source.read(Window.whole(self.grid.shape))
        marked: NDArray[np.bool_] = mask.array[0] > 0
        return marked if mask.valid is None else marked & mask.valid
