"""MATLAB's files before v7.3, by MathWorks' "MAT-File Format" (level 5).

Arrays of numbers alone are looked at: scipy's reader, which knows more, can crash on a damaged
file, and decodes each array whole in memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.containers.arrays import DEFLATE_RATIO
from pipeline.io.readers.containers.room import ZLIB, Deflated, Inflated
from pipeline.space import Shape

COMPRESSED, MATRIX = 15, 14
"""Types of element that hold others."""
STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
"""Types of element that hold numbers."""
CLASSES = dict(
    zip(range(6, 16), ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), strict=True)
)
"""Classes of arrays of numbers, as MATLAB shows them."""
COMPLEX, LOGICAL = 0x08, 0x02
"""Flags of an array."""
HEADER_BYTES = 2048
"""More than the header of an array takes."""


class Element(NamedTuple):
    """A piece of a file: its type, and where its bytes lie."""

    kind: int
    start: int
    nbytes: int
    next: int
    """Where the element after it begins."""


@dataclass(frozen=True)
class Variable:
    """An array of numbers in a file."""

    path: Path
    name: str
    shape: Shape
    """MATLAB's: rows, columns, and more."""
    dtype: np.dtype[Any]
    """Element type as MATLAB shows it."""
    stored: np.dtype[Any]
    """Element type in the file: whole numbers are kept in as few bytes as hold them."""
    packed: Element | None
    """The compressed element around it; None where there is none."""
    start: int
    """Where its numbers begin, in the file or, packed, in what is inflated."""

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers, as stored."""
        return prod(self.shape) * self.stored.itemsize

    def lent(self) -> NDArray[Any] | Inflated:
        """Its numbers, mapped, or inflated when first asked for."""
        if self.packed is not None:
            start, held = self.packed.start, self.packed.nbytes
            stream = Deflated(self.path, start, held, self.start, self.nbytes, ZLIB)
            return Inflated(stream, self._shaped)
        return self._shaped(np.memmap(self.path, np.uint8, "r", self.start, (self.nbytes,)))

    def _shaped(self, raw: NDArray[np.uint8]) -> NDArray[Any]:
        return raw.view(self.stored).reshape(self.shape, order="F")


def variables(path: Path) -> list[Variable]:
    """Arrays of real numbers in a file; everything else is passed over.

    Raises:
        CaseError: It is no file of this format.
        ValueError: It is damaged.
    """
    size = path.stat().st_size
    found = []
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:])
        if order is None:
            raise CaseError(
                f"{path.name} is no MATLAB file of version 5 to 7.3.",
                "Save it in MATLAB with -v7 or -v7.3.",
            )
        place = 128
        while place < size:
            file.seek(place)
            element = _element(file.read(8), 0, order)
            start = place + 8
            if element.nbytes > size - start:
                raise ValueError(f"{size - start} bytes where {element.nbytes} are claimed")
            packed = Element(element.kind, start, element.nbytes, start + element.nbytes)
            if variable := _variable(path, file, packed, order):
                found.append(variable)
            place = packed.next
    return found


def _variable(path: Path, file: BinaryIO, outer: Element, order: str) -> Variable | None:
    """The array in a top element; None where it is none of real numbers."""
    if outer.kind not in (COMPRESSED, MATRIX):
        return None
    content = file.read(min(outer.nbytes, HEADER_BYTES))
    if outer.kind == MATRIX:
        return _described(path, content, order, outer.nbytes, outer.start, None)
    content = isal_zlib.decompressobj().decompress(content, HEADER_BYTES)
    inner = _element(content, 0, order)
    if inner.kind != MATRIX or inner.nbytes > (outer.nbytes + 64) * DEFLATE_RATIO:
        raise ValueError(f"{outer.nbytes} bytes claim to hold {inner.nbytes}")
    return _described(path, content[inner.start :], order, inner.nbytes, inner.start, outer)


def _described(
    path: Path, content: bytes, order: str, held: int, origin: int, packed: Element | None
) -> Variable | None:
    """The array whose header ``content`` begins with: flags, sizes, name, then its numbers.

    Args:
        path: The file.
        content: First bytes of the element that holds the array.
        order: Byte order.
        held: Bytes of that element.
        origin: Where it begins, in the file or in what is inflated.
        packed: The compressed element around it.
    """
    flags = _element(content, 0, order)
    (word,) = struct.unpack_from(order + "I", content, flags.start)
    if word & 0xFF not in CLASSES or word >> 8 & COMPLEX:
        return None
    sizes = _element(content, flags.next, order)
    shape = struct.unpack_from(f"{order}{sizes.nbytes // 4}i", content, sizes.start)
    name = _element(content, sizes.next, order)
    title = content[name.start : name.start + name.nbytes].decode("ascii")
    numbers = _element(content, name.next, order)
    stored = np.dtype(order + STORED.get(numbers.kind, "V0"))
    dtype = np.dtype("u1" if word >> 8 & LOGICAL else CLASSES[word & 0xFF])
    fits = stored.kind in "iu" or dtype.kind == "f"
    if min(shape) < 0 or stored.itemsize * prod(shape) != numbers.nbytes or not fits:
        raise ValueError(f"{numbers.nbytes} bytes for an array of {shape}")
    if numbers.start + numbers.nbytes > held:
        raise ValueError(f"{held} bytes where {numbers.nbytes} are claimed")
    return Variable(path, title, shape, dtype, stored, packed, origin + numbers.start)


def _element(content: bytes, place: int, order: str) -> Element:
    """The element at a place, by its tag; one of up to 4 bytes stands in the tag itself."""
    kind, nbytes = struct.unpack_from(order + "2I", content, place)
    if small := kind >> 16:
        return Element(kind & 0xFFFF, place + 4, small, place + 8)
    start = place + 8
    return Element(kind, start, nbytes, start + -(-nbytes // 8) * 8)
