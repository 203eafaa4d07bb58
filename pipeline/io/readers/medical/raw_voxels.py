"""Voxels that lie in a file one after another, as they are or in a deflated stream.

NIfTI, MetaImage and NRRD differ in their headers only. Plain voxels are memory-mapped, window by
window; ``inflated_voxels`` reads deflated ones.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GridError
from pipeline.io.readers.medical.gzip_stream import MAX_RATIO
from pipeline.space import Shape, Window

SPARE_BYTES = 2**20
"""Bytes that may lie behind the voxels; more, and the header tells less than there is."""


@dataclass(frozen=True)
class RawLayout:
    """How voxels lie in a file: the last spatial axis runs fastest."""

    path: Path
    """The file."""
    start: int
    """Byte of the file at which the voxels, or the stream that holds them, begin."""
    skip: int
    """Bytes behind ``start``, of the inflated stream where there is one, before the voxels."""
    dtype: np.dtype[Any]
    """Element type, with its byte order."""
    channels: int
    """Size of the channel axis."""
    shape: Shape
    """Voxels on each spatial axis, (Z, Y, X) or (Y, X)."""
    interleaved: bool = False
    """Whether the channels of a voxel lie together; else one channel lies behind another."""
    deflated: bool = False
    """Whether the voxels are in a gzip or zlib stream."""

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels."""
        return self.dtype.itemsize * self.channels * prod(self.shape)

    @property
    def in_file(self) -> Shape:
        """Sizes as the file has them: (C, Z, Y, X, 1), or (1, Z, Y, X, C) where interleaved."""
        outer, inner = (1, self.channels) if self.interleaved else (self.channels, 1)
        return (outer, *self.shape, inner)

    @property
    def plane_bytes(self) -> int:
        """Bytes of one step on the first spatial axis, (1, 1, Y, X, C)."""
        return self.dtype.itemsize * prod(self.in_file[2:])

    def check_size(self) -> None:
        """Hold what the header describes against the file, before memory is taken for it.

        Raises:
            EOFError: The file is too small, or far larger.
        """
        there = self.path.stat().st_size - self.start
        wanted = self.skip + self.nbytes
        if self.skip < 0 or wanted > there * (MAX_RATIO if self.deflated else 1):
            raise EOFError(
                f"its header describes {self.nbytes} bytes of voxels, which {max(there, 0)} bytes "
                "cannot hold"
            )
        if not self.deflated and there - wanted > SPARE_BYTES:
            raise EOFError(
                f"its header describes {self.nbytes} bytes of voxels, {there} bytes are there"
            )

    def cut(self, planes: NDArray[Any], window: Window) -> NDArray[Any]:
        """Voxels of a window, channel first, from its planes in the file's order."""
        part = planes[(slice(None), slice(None), *window.slices[1:])]
        voxels: NDArray[Any] = np.moveaxis(part[0], -1, 0) if self.interleaved else part[..., 0]
        return voxels


class RawVoxels(Protocol):
    """Voxels by window, in the element type of the file."""

    @property
    def sequential(self) -> bool:
        """Whether windows are best read once, in order of their first axis."""

    def read(self, window: Window) -> NDArray[Any]:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X); not to be written to."""


class MappedVoxels:
    """Plain voxels: a window is a view of the file. Mapped anew for each: safe in any thread.

    Args:
        layout: Where the voxels are.
        scratch: An open file that holds them in place of the layout's path.
    """

    sequential = False

    def __init__(self, layout: RawLayout, scratch: IO[bytes] | None = None) -> None:
        self.layout = layout
        self._scratch = scratch

    def read(self, window: Window) -> NDArray[Any]:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X); not to be written to."""
        refuse_outside(window, self.layout.shape)
        if window.size == 0:
            return np.empty((self.layout.channels, *window.shape), self.layout.dtype)
        if self._scratch is not None:
            return self._window(window, self._scratch.fileno())
        with self.layout.path.open("rb") as file:
            return self._window(window, file.fileno())

    def _window(self, window: Window, file: int) -> NDArray[Any]:
        # Only the window's own planes are mapped, so that memory goes back with the window.
        layout = self.layout
        planes = (layout.in_file[0] - 1) * layout.shape[0] + window.shape[0]
        begin = layout.start + layout.skip + window.start[0] * layout.plane_bytes
        end = begin + planes * layout.plane_bytes
        if os.fstat(file).st_size < end:
            raise EOFError("it became shorter while it was read")
        slack = begin % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(file, end - begin + slack, access=mmap.ACCESS_READ, offset=begin - slack)
        sizes = layout.in_file
        steps = [layout.dtype.itemsize * prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        taken = (sizes[0], window.shape[0], *sizes[2:])
        view: NDArray[Any] = np.ndarray(taken, layout.dtype, mapped, slack, steps)
        return layout.cut(view, window)


def refuse_outside(window: Window, shape: Shape) -> None:
    """Refuse a window that reaches outside a volume.

    Raises:
        GridError: It does.
    """
    if not Window.whole(shape).contains(window):
        raise GridError(
            f"window {window.start}..{window.stop} reaches outside {shape}: "
            "clip it with Window.clipped()"
        )
