"""Compressed frames in a DICOM file: where each lies, and how large its codestream says it is.

Encapsulated pixels are a row of fragments (DICOM PS3.5, A.4), which tables may share out to
frames. Every length is held against the file before it is believed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from struct import unpack, unpack_from
from typing import BinaryIO

from pipeline.io.readers.dicom.header import Header

Range = tuple[int, int]
ITEM = 0xE000FFFE
# Fragments of the largest real files are some thousands.
MOST_FRAGMENTS = 2**20
# Start-of-frame markers of JPEG, JPEG lossless and JPEG-LS.
FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def frame_ranges(file: BinaryIO, header: Header) -> list[list[Range]]:
    """Bytes of each frame, as (first byte, length) of its fragments.

    Raises:
        ValueError: The fragments reach past the file, or do not tell which frame they belong to.
    """
    count = len(header.frames)
    base, table = _offset_table(file, header)
    fragments = list(_fragments(file, base, header.pixels.file_bytes))
    starts = next((t for t in (header.offsets, table) if len(t) == count), None)
    if count == 1:
        return [fragments]
    if starts is None:
        if len(fragments) != count:
            raise ValueError("fragments belong to no frame")
        return [[fragment] for fragment in fragments]
    frames: list[list[Range]] = [[] for _ in range(count)]
    for start, length in fragments:
        # Tables count from the first fragment's tag, eight bytes before its content.
        frames[bisect_right(starts, start - 8 - base) - 1].append((start, length))
    return frames


def _offset_table(file: BinaryIO, header: Header) -> tuple[int, tuple[int, ...]]:
    """Where the first fragment begins, and the basic offset table before it."""
    file.seek(header.pixels.offset)
    tag, length = unpack("<II", file.read(8))
    if tag != ITEM or length > header.pixels.file_bytes or length % 4:
        raise ValueError("no offset table")
    return header.pixels.offset + 8 + length, unpack(f"<{length // 4}I", file.read(length))


def _fragments(file: BinaryIO, at: int, file_bytes: int) -> Iterator[Range]:
    for _ in range(MOST_FRAGMENTS):
        file.seek(at)
        tag, length = unpack("<II", file.read(8))
        if tag != ITEM:
            return
        if at + 8 + length > file_bytes:
            raise ValueError("a fragment reaches past the file")
        yield at + 8, length
        at += 8 + length
    raise ValueError("too many fragments")


def codestream(data: bytes) -> bytes:
    """A compressed frame without the JP2 file that some writers wrap around it.

    Raises:
        ValueError: A JP2 file holds no codestream.
        struct.error: It ends before it says.
    """
    if data[4:8] != b"jP  ":
        return data
    at = 0
    while True:
        length, kind = unpack_from(">I4s", data, at)
        if kind == b"jp2c":
            return data[at + 8 :]
        if length < 8:
            raise ValueError("no codestream")
        at += length


def codestream_size(data: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and colours that a JPEG or JPEG 2000 codestream announces; None for neither.

    A decoder allocates by these, not by what the DICOM header says.

    Raises:
        ValueError: The codestream ends before it says.
        struct.error: The same.
    """
    if data[:4] == b"\xff\x4f\xff\x51":
        right, bottom, left, top = unpack_from(">IIII", data, 8)
        return bottom - top, right - left, int(unpack_from(">H", data, 40)[0])
    return _jpeg_size(data) if data[:2] == b"\xff\xd8" else None


def _jpeg_size(data: bytes) -> tuple[int, int, int]:
    at = 2
    while True:
        mark, kind, length = unpack_from(">BBH", data, at)
        if mark != 0xFF or length < 2:
            raise ValueError("no marker")
        if kind in FRAME_MARKERS:
            rows, columns, colours = unpack_from(">HHB", data, at + 5)
            return rows, columns, colours
        # Markers may be preceded by any number of fill bytes.
        at += 1 if kind == 0xFF else 2 + length
