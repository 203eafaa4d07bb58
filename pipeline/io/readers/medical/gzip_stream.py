"""gzip and zlib streams, inflated forward with ISA-L at three to four times zlib's speed."""

from __future__ import annotations

from pathlib import Path
from weakref import finalize

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

# isal's stubs take the class for an instance.
INFLATE_DAMAGE: tuple[type[Exception], ...] = (isal_zlib.IsalError, OSError, EOFError)  # type: ignore[assignment]
"""What a damaged stream raises."""
MAX_RATIO = 1100
"""More than deflate can pack into a byte (1032): a stream of n bytes never holds n times this."""
CHUNK = 1 << 18
"""Bytes read from the file at once."""
PIECE = 1 << 20
"""Bytes inflated at once."""
GZIP_MAGIC = b"\x1f\x8b"
GZIP, ZLIB = 31, 15  # zlib's window bits, by which the kind of stream is told


class InflateStream:
    """Bytes of a gzip or zlib stream, in order, their checksums verified; its file closes with it.

    A gzip stream may have several members, and zeros behind them; what lies behind a zlib stream
    is no part of it.

    Args:
        path: The file.
        start: Byte of the file at which the stream begins.
    """

    position = 0
    """Inflated bytes given so far."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._file = path.open("rb")
        finalize(self, self._file.close)
        self._file.seek(start)
        self._waiting = self._file.read(CHUNK)
        self._kind = GZIP if self._waiting.startswith(GZIP_MAGIC) else ZLIB
        self._inflater = isal_zlib.decompressobj(self._kind)

    def fill(self, out: NDArray[np.uint8]) -> None:
        """Fill a one-dimensional array with the next bytes.

        Raises:
            EOFError: The stream ends before.
            IsalError: It is no such stream, or a checksum is wrong.
        """
        filled = 0
        while filled < out.size:
            piece = self._more(out.size - filled)
            if not piece:
                raise EOFError(f"the compressed stream ends after {self.position} bytes")
            out[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)

    def take(self, most: int) -> bytes:
        """The next bytes; fewer at the stream's end."""
        taken = bytearray()
        while len(taken) < most and (piece := self._more(most - len(taken))):
            taken += piece
        return bytes(taken)

    def skip(self, count: int) -> None:
        """Pass over bytes, or to the stream's end where it is nearer."""
        while count > 0 and (piece := self._more(count)):
            count -= len(piece)

    def expect_end(self, most: int) -> None:
        """Read on to the stream's end, where its checksum stands.

        Args:
            most: Bytes that may still come; they are dropped.

        Raises:
            EOFError: More bytes come.
        """
        self.skip(most)
        if self._more(1):
            raise EOFError(f"the stream goes on for more than {most} bytes behind the voxels")

    def _more(self, most: int) -> bytes:
        """Some of the next bytes; none at the stream's end."""
        while not self._inflater.eof or self._next_member():
            data = self._waiting or self._file.read(CHUNK)
            # Where the file has ended, the inflater may still hold what it has taken in.
            piece = self._inflater.decompress(data, min(most, PIECE))
            self._waiting = self._inflater.unconsumed_tail
            if piece:
                self.position += len(piece)
                return piece
            if not data and not self._inflater.eof:
                raise EOFError("the compressed stream is cut off")
        return b""

    def _next_member(self) -> bool:
        """Begin the next member of a gzip stream; False where there is none."""
        if self._kind == ZLIB:
            return False
        rest = self._inflater.unused_data.lstrip(b"\0")
        while not rest and (chunk := self._file.read(CHUNK)):
            rest = chunk.lstrip(b"\0")
        if not rest:
            return False
        self._waiting = rest
        self._inflater = isal_zlib.decompressobj(GZIP)
        return True
