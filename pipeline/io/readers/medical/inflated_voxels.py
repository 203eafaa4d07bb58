"""Voxels in a gzip or zlib stream, which has no way to seek.

The stream is read slab by slab, onward. Where that cannot be (channels one behind another, planes
too large, windows in no order) it is inflated once into a scratch file, and that is mapped.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.medical.gzip_stream import InflateStream
from pipeline.io.readers.medical.raw_voxels import (
    SPARE_BYTES,
    MappedVoxels,
    RawLayout,
    RawVoxels,
    refuse_outside,
)
from pipeline.space import Window

WHOLE_BYTES = 64 * 2**20
"""A volume of at most this size is inflated whole, and kept."""
SLAB_BYTES = 256 * 2**20
"""Most inflated voxels that are held of a larger one."""
MOST_PASSES = 4
"""Times that a stream is begun before its windows are taken to be in no order."""
PIECE = 4 * 2**20
"""Bytes written to a scratch file at once."""


def open_voxels(layout: RawLayout) -> RawVoxels:
    """Voxels that lie in a file as a layout says; nothing is read yet.

    Raises:
        EOFError: The file cannot hold them.
    """
    layout.check_size()
    return InflatedVoxels(layout) if layout.deflated else MappedVoxels(layout)


class InflatedVoxels:
    """Voxels of a deflated stream, one thread at a time.

    The slab last inflated is kept, so that windows side by side inflate it once. The stream's end
    and its checksum are looked at with the last slab.
    """

    def __init__(self, layout: RawLayout) -> None:
        self.layout = layout
        self._whole = layout.nbytes <= WHOLE_BYTES
        self._in_slabs = layout.in_file[0] == 1 and layout.plane_bytes <= SLAB_BYTES
        self._lock = Lock()
        self._stream: InflateStream | None = None
        self._passes = 0
        self._first = 0
        self._slab = self._new_slab(0)
        self._scratch: MappedVoxels | None = None

    @property
    def sequential(self) -> bool:
        """True for all but small volumes, and those that go into a scratch file."""
        return self._in_slabs and not self._whole

    def read(self, window: Window) -> NDArray[Any]:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X); not to be written to."""
        refuse_outside(window, self.layout.shape)
        if window.size == 0:
            return np.empty((self.layout.channels, *window.shape), self.layout.dtype)
        with self._lock:
            if self._scratch is None:
                if self._whole or (self._in_slabs and self._passes <= MOST_PASSES):
                    return self._from_stream(window)
                self._scratch = self._spilled()
        return self._scratch.read(window)

    def _from_stream(self, window: Window) -> NDArray[Any]:
        layout = self.layout
        first, stop = window.start[0], window.stop[0]
        step = max(1, SLAB_BYTES // layout.plane_bytes)
        if self._whole:
            return layout.cut(self._planes(0, layout.shape[0])[:, first:stop], window)
        if stop - first <= step:
            return layout.cut(self._planes(first, stop), window)
        out = np.empty((layout.channels, *window.shape), layout.dtype)
        for begin in range(first, stop, step):
            end = min(begin + step, stop)
            out[:, begin - first : end - first] = layout.cut(self._planes(begin, end), window)
        return out

    def _planes(self, first: int, stop: int) -> NDArray[Any]:
        """Planes in the file's order: those that are held, and new ones behind them."""
        end = self._first + self._slab.shape[1]
        if not self._first <= first < end:
            # What shares nothing with the new slab goes before that takes memory.
            self._first, end, self._slab = first, first, self._new_slab(0)
        if stop > end:
            slab = self._new_slab(stop - first)
            slab[:, : end - first] = self._slab[:, first - self._first :]
            self._inflate(end, slab[:, end - first :].reshape(-1).view(np.uint8))
            slab.flags.writeable = False
            self._first, self._slab = first, slab
        return self._slab[:, first - self._first : stop - self._first]

    def _new_slab(self, planes: int) -> NDArray[Any]:
        sizes = self.layout.in_file
        return np.empty((sizes[0], planes, *sizes[2:]), self.layout.dtype)

    def _inflate(self, plane: int, out: NDArray[np.uint8]) -> None:
        wanted = self.layout.skip + plane * self.layout.plane_bytes
        stream, self._stream = self._stream, None
        if stream is None or wanted < stream.position:
            stream = InflateStream(self.layout.path, self.layout.start)
            self._passes += 1
        stream.skip(wanted - stream.position)
        stream.fill(out)
        if stream.position < self.layout.skip + self.layout.nbytes:
            self._stream = stream
        else:
            stream.expect_end(SPARE_BYTES)

    def _spilled(self) -> MappedVoxels:
        """The voxels in an unnamed file, which goes with them."""
        self._stream, self._slab = None, self._new_slab(0)
        refuse_small_disk(self.layout)
        scratch = tempfile.TemporaryFile(prefix="segflow-")  # noqa: SIM115
        voxels = MappedVoxels(replace(self.layout, start=0, skip=0, deflated=False), scratch)
        finalize(voxels, scratch.close)
        stream = InflateStream(self.layout.path, self.layout.start)
        stream.skip(self.layout.skip)
        buffer = np.empty(PIECE, np.uint8)
        for begin in range(0, self.layout.nbytes, PIECE):
            piece = buffer[: self.layout.nbytes - begin]
            stream.fill(piece)
            scratch.write(piece.data)
        scratch.flush()
        stream.expect_end(SPARE_BYTES)
        return voxels


def refuse_small_disk(layout: RawLayout) -> None:
    """Refuse to inflate a volume into a scratch folder that cannot hold it.

    Raises:
        CaseError: The folder's disk has too little space.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if layout.nbytes > free:
        raise CaseError(
            f"{layout.path.name} needs {layout.nbytes >> 20} MiB of scratch space, {folder} has "
            f"{free >> 20} MiB.",
            "Free space there, or set TMPDIR to a folder on a larger disk.",
        )
