"""An array in a deflated part of a file: inflated once, then read in any order."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.containers.arrays import Slices

IN_MEMORY_BYTES = 64 * 2**20
"""An inflated array up to this size stays in memory."""
SPARE_BYTES = 8
"""Bytes that may follow an array in its stream: MATLAB pads to this many."""
PIECE = 2**20
"""Bytes read, and bytes inflated, at once."""
ZLIB, RAW = 15, -15
"""zlib's window bits, which tell a stream with a header from one without."""
# isal's stubs take the class for an instance.
DAMAGE: tuple[type[Exception], ...] = (isal_zlib.IsalError, EOFError)  # type: ignore[assignment]
"""What a damaged stream raises."""


@dataclass(frozen=True)
class Deflated:
    """An array in a deflated stream in a file."""

    path: Path
    start: int
    """Where the stream begins, bytes from the file's first."""
    held: int
    """Bytes of the stream."""
    skip: int
    """Bytes of what is inflated before the array's first."""
    nbytes: int
    """Bytes of the array."""
    kind: int
    """Window bits, ``ZLIB`` or ``RAW``."""
    crc: int | None = None
    """CRC-32 of all that is inflated; None: the stream has a checksum of its own."""

    def pieces(self) -> Iterator[bytes]:
        """Bytes of the array, piece by piece.

        Raises:
            EOFError: The stream ends early, or its checksum is wrong.
            IsalError: It is no deflated stream.
        """
        crc, done, stop = 0, 0, self.skip + self.nbytes
        for piece in self._inflated():
            crc = crc if self.crc is None else isal_zlib.crc32(piece, crc)
            kept = piece[max(0, self.skip - done) : max(0, stop - done)]
            done += len(piece)
            if done > stop + SPARE_BYTES:
                break
            if kept:
                yield kept
        if not stop <= done <= stop + SPARE_BYTES or crc != (self.crc or 0):
            raise EOFError(f"an array of {self.nbytes} bytes that ends elsewhere or is altered")

    def _inflated(self) -> Iterator[bytes]:
        stream = isal_zlib.decompressobj(self.kind)
        unread = self.held
        with self.path.open("rb") as file:
            file.seek(self.start)
            while not stream.eof:
                content = stream.unconsumed_tail
                if not content:
                    content = file.read(min(PIECE, unread))
                    unread -= len(content)
                if not content:
                    raise EOFError(f"a stream of {self.held} bytes that does not end")
                yield stream.decompress(content, PIECE)


class Inflated:
    """An array that is inflated when it is first asked for.

    Small ones stay in memory, larger ones in an unnamed temporary file, so that memory is flat.

    Args:
        stream: The stream it is in.
        shaped: Gives the array of its bytes.
    """

    def __init__(
        self, stream: Deflated, shaped: Callable[[NDArray[np.uint8]], NDArray[Any]]
    ) -> None:
        self._stream, self._shaped = stream, shaped
        self._array: NDArray[Any] | None = None
        self._lock = Lock()

    def __getitem__(self, box: Slices) -> NDArray[Any]:
        with self._lock:
            if self._array is None:
                room = make_room(self._stream.path, self._stream.nbytes)
                filled = 0
                for piece in self._stream.pieces():
                    room[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
                    filled += len(piece)
                self._array = self._shaped(room)
        return self._array[box]


def make_room(path: Path, nbytes: int) -> NDArray[np.uint8]:
    """Bytes to write to, in memory or in an unnamed temporary file.

    Args:
        path: The file that needs them, for messages.
        nbytes: How many.

    Raises:
        CaseError: The temporary folder's disk is too small.
    """
    if nbytes <= IN_MEMORY_BYTES:
        return np.empty(nbytes, np.uint8)
    with tempfile.TemporaryFile(prefix="segflow-") as file:
        try:
            # A disk that fills up under a map would kill the process.
            os.posix_fallocate(file.fileno(), 0, nbytes)
        except OSError as error:
            raise CaseError(
                f"{path.name} needs {nbytes} bytes of temporary space, which "
                f"{tempfile.gettempdir()} does not have.",
                "Set TMPDIR to a folder on a larger disk, or save the array uncompressed.",
            ) from error
        # The map keeps the file, which has no name, until it is let go itself.
        return np.memmap(file, np.uint8, "r+", shape=(nbytes,))
