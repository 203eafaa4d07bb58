"""From a DICOM file to the elements asked for, and to where its pixels are, in bounded memory.

Whatever goes wrong is a value of ``Unusable``, never an error: pydicom's errors quote what they
could not read, and that may be a patient's name.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from enum import Enum
from io import BytesIO
from pathlib import Path
from struct import unpack_from
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.io.readers.dicom.elements import raw_element, tag_of, text
from pipeline.io.readers.dicom.quiet import quiet

MAGIC = b"DICM"
SUFFIXES = (".dcm", ".ima")
# Headers are a few KiB, or some MiB where each of thousands of frames has its own groups.
FIRST_BYTES = 2**16
MOST_BYTES = 2**26
# Items of sequences, little- and big-endian: of eight bytes at least, of a KiB once parsed.
ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
MOST_ITEMS = 2**18
INFLATED_BYTES = 2**20
UNDEFINED_LENGTH = 0xFFFFFFFF
PIXELS = {
    0x7FE00010: "PixelData",
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
}
IMAGES_OF_OTHER_NAME = ("Enhanced US Volume Storage", "Parametric Map Storage")


class Unusable(Enum):
    """Why a file gives no header."""

    FOREIGN = "it is not DICOM"
    OTHER = "it is DICOM, but no image"
    DAMAGED = "it is DICOM that cannot be read"


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """Where in a file its frames are."""

    kind: str
    """Keyword of their element: integers, float32 or float64."""
    vr: str
    """The element's type, which tells the order of bytes in old files."""
    syntax: str
    """Transfer syntax: their compression, and the order of bytes."""
    offset: int
    """First byte of their element's value; of the inflated stream where that is deflated."""
    length: int | None
    """Bytes of that value; None: encapsulated fragments up to a delimiter."""
    file_bytes: int
    deflated_from: int | None
    """First byte of the deflated stream; None for every other syntax."""


@dataclass(frozen=True)
class Opened:
    """The elements of a file, not yet read, and where its pixels are."""

    elements: Dataset = field(repr=False)
    pixels: PixelPlace


def open_file(path: Path, keywords: tuple[str, ...]) -> Opened | Unusable:
    """Find elements of a file; no other element's value is kept.

    Args:
        path: Any file.
        keywords: The elements wanted; ``SOPClassUID`` and ``Rows`` among them.
    """
    named = path.suffix.lower() in SUFFIXES
    try:
        # A pipe would wait for its writer.
        if path.exists() and not path.is_file():
            return Unusable.FOREIGN
        with path.open("rb") as file:
            return _open(file, named, keywords)
    except FileNotFoundError:
        return Unusable.DAMAGED if named else Unusable.FOREIGN
    except OSError:
        return Unusable.DAMAGED


def _open(file: BinaryIO, named: bool, keywords: tuple[str, ...]) -> Opened | Unusable:
    start = file.read(132)
    if start[128:] != MAGIC and not named:
        return Unusable.FOREIGN
    if start[128:] != MAGIC and not any(start):
        # What a failed copy leaves; it would be parsed to its end, as elements of no length.
        return Unusable.DAMAGED
    size = os.fstat(file.fileno()).st_size
    tags = [tag_of(keyword) for keyword in keywords]
    most = FIRST_BYTES
    while True:
        file.seek(0)
        found = _parse(file.read(most), size, tags)
        if found is not Unusable.DAMAGED or most >= min(size, MOST_BYTES):
            return found
        most = min(16 * most, MOST_BYTES)


def _parse(head: bytes, size: int, tags: list[BaseTag]) -> Opened | Unusable:
    """What the first bytes of a file hold; damaged where they end before its pixels begin."""
    try:
        with quiet:
            start = _deflated_from(head)
            content = head if start is None else _inflated_head(head[start:])
            if max(content.count(item) for item in ITEMS) > MOST_ITEMS:
                return Unusable.DAMAGED
            stream = BytesIO(content)
            elements, meta = _elements(stream, start is not None, tags)
            if not _is_image(elements, meta, whole=len(head) >= size):
                return Unusable.OTHER
            return _with_pixels(stream, elements, meta, size, start)
    # Anything may be in a file, and pydicom answers with errors of every type.
    except Exception:
        return Unusable.DAMAGED


def _elements(
    stream: BytesIO, inflated: bool, tags: list[BaseTag]
) -> tuple[Dataset, FileMetaDataset]:
    if not inflated:
        dataset = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(tags))
        return dataset, dataset.file_meta
    elements = read_dataset(stream, False, True, stop_when=_at_pixels, specific_tags=list(tags))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return elements, meta


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in PIXELS


def _deflated_from(head: bytes) -> int | None:
    """Where the deflated part of a file begins; None where it has none."""
    if head[128:136] != MAGIC + bytes((2, 0, 0, 0)):
        return None
    start = 144 + int(unpack_from("<I", head, 140)[0])
    deflated = DeflatedExplicitVRLittleEndian.encode()
    return start if deflated in head[144:start] else None


def _inflated_head(stream: bytes) -> bytes:
    # pydicom inflates without a limit, and a kilobyte may hold a megabyte.
    return inflated(BytesIO(stream), 0, min(MOST_BYTES, 16 * max(len(stream), FIRST_BYTES)))


def inflated(file: BinaryIO, skip: int, count: int) -> bytes:
    """Bytes of a deflated stream, in memory for these alone.

    Args:
        file: Open at the first byte of the stream.
        skip: Inflated bytes before the first wanted.
        count: Inflated bytes wanted; fewer come where the stream ends.

    Raises:
        zlib.error: The stream is damaged.
    """
    stream, kept, seen = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), 0
    while len(kept) < count and not stream.eof:
        fed = stream.unconsumed_tail or file.read(INFLATED_BYTES)
        if not fed:
            break
        piece = stream.decompress(fed, INFLATED_BYTES)
        kept += piece[max(0, skip - seen) :]
        seen += len(piece)
    return bytes(kept[:count])


def _is_image(elements: Dataset, meta: Dataset, *, whole: bool) -> bool:
    """Whether a file is of a class of images; False also for dose, structures and segmentations.

    Raises:
        ValueError: It ends before this is said.
    """
    kind = text(elements, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    name, sized = UID(kind).name, raw_element(elements, "Rows") is not None
    if name != kind:
        return "Image Storage" in name or name in IMAGES_OF_OTHER_NAME
    # A maker's own class has no name: it is an image if it looks like one.
    if not sized and not (kind and whole):
        raise ValueError("no size so far")
    return sized


def _with_pixels(
    stream: BytesIO, elements: Dataset, meta: FileMetaDataset, size: int, start: int | None
) -> Opened:
    """Look at the element where reading stopped, the pixels.

    Raises:
        KeyError: The stream ends before them.
    """
    rows = raw_element(elements, "Rows")
    implicit, little = (rows.is_implicit_VR, rows.is_little_endian) if rows else (False, True)
    order, at, content = "<" if little else ">", stream.tell(), stream.getbuffer()
    group, number = unpack_from(order + "HH", content, at)
    kind = PIXELS[group << 16 | number]
    vr = "OW" if implicit else bytes(content[at + 4 : at + 6]).decode("ascii")
    head = 8 if implicit else 12
    (length,) = unpack_from(order + "I", content, at + head - 4)
    stored = None if length == UNDEFINED_LENGTH else length
    syntax = str(meta.get("TransferSyntaxUID", "")) or _syntax(implicit, little)
    return Opened(elements, PixelPlace(kind, vr, syntax, at + head, stored, size, start))


def _syntax(implicit: bool, little: bool) -> str:
    """The transfer syntax of a file that does not name it, by how it is written."""
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
