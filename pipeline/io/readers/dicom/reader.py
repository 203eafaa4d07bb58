"""DICOM: single- and multi-frame files, and series of slices, with pydicom.

A series is a volume only if its slices fill a regular grid: they are ordered by position, and
refused where one is missing, there twice or out of place. Slices are decoded one at a time.
No name, date, number or free text of a patient leaves this reader: it reads an allow-list of
elements, and errors speak of slices by position, never by file name.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.readers.dicom.calibration import calibrated, not_padding
from pipeline.io.readers.dicom.header import read_header
from pipeline.io.readers.dicom.pixels import FrameReader
from pipeline.io.readers.dicom.series import Series, find_series
from pipeline.io.readers.dicom.volume import Arranged, arrange, damaged
from pipeline.io.readers.source import Role
from pipeline.space import Shape, Volume, Window

__all__ = ["DicomSource", "Series", "find_series", "open_series", "open_source"]

# Values, (C, Y, X), and where they are data, (Y, X); None: everywhere.
Slice = tuple[NDArray[Any], NDArray[np.bool_] | None]
# Neighbouring windows share slices: enough for 64 slices of 512² voxels of 16 bits.
CACHE_BYTES = 64 * 2**20


class SliceCache:
    """The slices decoded last, each decoded once however many threads ask for it."""

    def __init__(self, decode: Callable[[int], Slice]) -> None:
        self._decode = decode
        self._lock = threading.Lock()
        self._slices: OrderedDict[int, Future[Slice]] = OrderedDict()
        self._bytes = 0

    def get(self, z: int) -> Slice:
        """Values and validity of a slice; both are not to be written to."""
        with self._lock:
            kept = self._slices.get(z)
            waiting = kept or self._slices.setdefault(z, Future())
            self._slices.move_to_end(z)
        if kept is None:
            self._fill(z, waiting)
        return waiting.result()

    def _fill(self, z: int, waiting: Future[Slice]) -> None:
        try:
            decoded = self._decode(z)
        except BaseException as error:
            with self._lock:
                del self._slices[z]
            waiting.set_exception(error)
            return
        with self._lock:
            waiting.set_result(decoded)
            self._bytes += _bytes(decoded)
            while self._bytes > CACHE_BYTES:
                # This one is done, so there is always one to let go.
                oldest = next(key for key, future in self._slices.items() if future.done())
                self._bytes -= _bytes(self._slices.pop(oldest).result())


def _bytes(decoded: Slice) -> int:
    return sum(array.nbytes for array in decoded if array is not None)


class DicomSource:
    """A volume in DICOM files."""

    sequential = False

    def __init__(self, arranged: Arranged, role: Role) -> None:
        self._arranged = arranged
        self._role = role
        self._readers = [FrameReader(header) for header in arranged.headers]
        self._padded = any(header.padding is not None for header in arranged.headers)
        self._slices = SliceCache(self._decode)
        self.grid = arranged.stack.grid
        self.placed = arranged.stack.placed
        self.channels = arranged.headers[0].format.samples
        self.dtype = arranged.dtype

    @property
    def block(self) -> Shape:
        """One slice."""
        return (*(1,) * (len(self.grid.shape) - 2), *self.grid.shape[-2:])

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X).

        Raises:
            CaseError: A file is damaged.
        """
        *depth, rows, columns = window.slices
        planes = range(depth[0].start, depth[0].stop) if depth else range(1)
        shape = (len(planes), rows.stop - rows.start, columns.stop - columns.start)
        values = np.empty((self.channels, *shape), self.dtype)
        valid = np.empty(shape, np.bool_) if self._padded else None
        for at, z in enumerate(planes):
            found, told = self._slices.get(z)
            values[:, at] = found[:, rows, columns]
            if valid is not None:
                valid[at] = True if told is None else told[rows, columns]
        return Volume(
            values.reshape(self.channels, *window.shape),
            self.grid.cropped(window),
            None if valid is None else valid.reshape(window.shape),
        )

    def _decode(self, z: int) -> Slice:
        part = self._arranged.parts[z]
        header = self._arranged.headers[part.file]
        stored = self._readers[part.file].read(part.index)
        if stored is None:
            raise damaged(1, len(self._readers))
        values = calibrated(stored, header, part.frame, self.dtype, self._role)
        return values, not_padding(stored, header)


def open_source(path: Path, role: Role) -> DicomSource:
    """Open one file, of one or more frames; reads its header only.

    Raises:
        CaseError: It is no image, is damaged, or its frames make no volume.
    """
    return open_series([path], role)


def open_series(paths: Sequence[Path], role: Role) -> DicomSource:
    """Open the slices of one series as a volume, given in any order; reads headers only.

    Args:
        paths: The files of the series, at least one.
        role: ``image`` or ``mask``: masks are never turned over where higher is darker.

    Raises:
        CaseError: The files do not make one volume: slices are missing, there twice, unevenly
            spaced or unlike each other; or a file is damaged.
    """
    return DicomSource(arrange([read_header(path) for path in paths], role), role)
