"""What a MetaImage or NRRD header says, and the rules that both share.

Both headers are text, parsed here and not by ITK: its parsers crash on damaged headers, and it
reads deflated voxels without looking at their checksum. The tests hold the meaning against ITK's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.medical.raw_voxels import RawLayout
from pipeline.space import Shape

HEADER_BYTES = 4 * 2**20
"""More than any header has."""
LONGEST_NAME = 1000
TEXT = ("utf-8", "surrogateescape")
"""How headers are decoded: names of files may be of any bytes."""
NUMBERED = re.compile(r"(\S*)%(0?)(\d?)d(\S*)\s+(-?\d+)\s+(-?\d+)\s+(\d+)(?:\s+\d+)?")
"""Names of slice files by number: a pattern of C's printf, first, last, step."""


@dataclass(frozen=True)
class ItkHeader:
    """A header's contents, the axes of the file in its own order: the first runs fastest."""

    path: Path
    """The header's file."""
    shape: Shape
    """Voxels on each spatial axis, (Z, Y, X) or (Y, X)."""
    dtype: np.dtype[Any]
    """Element type, with its byte order."""
    channels: int
    """Size of the channel axis."""
    interleaved: bool
    """Whether the channel axis runs fastest; else it runs slowest."""
    steps: NDArray[np.float64]
    """Millimetres LPS from voxel to voxel, one column per axis x, y[, z]."""
    origin: NDArray[np.float64]
    """Centre of the first voxel, millimetres LPS."""
    placed: bool
    """Whether the header says anything of its place."""
    files: tuple[Path, ...]
    """Files that hold the voxels: one, or one per step of the slowest axis."""
    start: int
    """Byte of each file at which the voxels, or the stream that holds them, begin."""
    skip: int
    """Bytes to pass over from there; −1: the voxels are the file's last bytes."""
    deflated: bool
    """Whether the voxels are in a gzip or zlib stream."""

    @property
    def companions(self) -> tuple[Path, ...]:
        """Files beside the header that belong to it."""
        return tuple(file for file in self.files if file != self.path)

    def layouts(self) -> list[RawLayout]:
        """Where the voxels are, file by file."""
        several = len(self.files) > 1
        by_channel = several and self.channels > 1 and not self.interleaved
        by_plane = several and not by_channel
        shape = (1, *self.shape[1:]) if by_plane else self.shape
        channels = 1 if by_channel else self.channels
        size = prod(shape) * channels * self.dtype.itemsize
        return [
            RawLayout(
                file,
                self.start,
                file.stat().st_size - self.start - size if self.skip == -1 else self.skip,
                self.dtype,
                channels,
                shape,
                self.interleaved,
                self.deflated,
            )
            for file in self.files
        ]


def needed(fields: Mapping[str, str], name: str) -> str:
    """A field that a header must have.

    Raises:
        ValueError: It has none.
    """
    if name not in fields:
        raise ValueError(f"its header has no {name}")
    return fields[name]


def integers(text: str, count: int | None = None) -> tuple[int, ...]:
    """Whole numbers of a field.

    Raises:
        ValueError: They are none, or not ``count``.
    """
    numbers = tuple(int(word) for word in text.split())
    if count is not None and len(numbers) != count:
        raise ValueError(f"{count} whole numbers are expected, not {text[:40]!r}")
    return numbers


def reals(text: str, count: int) -> NDArray[np.float64]:
    """Numbers of a field, as an array of ``count``.

    Raises:
        ValueError: They are none, or not ``count``.
    """
    numbers = [float(word) for word in text.split()]
    if len(numbers) != count:
        raise ValueError(f"{count} numbers are expected, not {text[:40]!r}")
    return np.asarray(numbers, np.float64)


def element_type(names: Mapping[str, str], name: str, path: Path) -> np.dtype[Any]:
    """The element type that a header names.

    Raises:
        CaseError: It is no type of numbers.
    """
    if name not in names:
        raise CaseError(
            f"{path.name} holds elements of type {name[:40]}: numbers are expected.",
            "Save the voxels as whole numbers or floats.",
        )
    return np.dtype(names[name])


def listed_files(file: IO[bytes], count: int) -> list[str]:
    """Names of files in the lines that are left of a header, one per step of the slowest axis.

    Raises:
        ValueError: They are not ``count``.
    """
    lines = file.read(HEADER_BYTES).decode(*TEXT).splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if len(names) != count:
        raise ValueError(f"its header lists {len(names)} files of voxels, {count} are expected")
    return names


def numbered_files(pattern: str, count: int) -> list[str] | None:
    """Names that a pattern with first, last and step stands for; None where it is no pattern.

    Example:
        >>> numbered_files("slice%03d.raw 1 5 2", 3)
        ['slice001.raw', 'slice003.raw', 'slice005.raw']
    """
    match = NUMBERED.fullmatch(pattern[:LONGEST_NAME])
    if match is None:
        return None
    before, zero, width, behind = match.groups()[:4]
    first, last, step = (int(number) for number in match.groups()[4:])
    if step < 1 or len(range(first, last + 1, step)) != count:
        raise ValueError(f"its header numbers files from {first} to {last}, {count} are expected")
    return [f"{before}{n:{zero}{width}d}{behind}" for n in range(first, last + 1, step)]


def refuse_text(path: Path, kind: str) -> CaseError:
    """The refusal of voxels that are not stored as bytes or deflated bytes."""
    return CaseError(
        f"{path.name} stores its voxels as {kind}: binary or gzip is expected.",
        "Write it again as binary or gzip, with SimpleITK or 3D Slicer.",
    )


def inside(path: Path, name: str) -> Path:
    """A file that a header names.

    Raises:
        CaseError: It lies outside the header's folder, or does not exist.
    """
    file = path.parent / name
    # The header may itself be a link, with its voxels beside what it points to.
    folders = (path.parent.resolve(), path.resolve().parent)
    outside = PurePath(name).is_absolute() or ".." in PurePath(name).parts
    if outside or not any(file.resolve().is_relative_to(folder) for folder in folders):
        raise CaseError(
            f"{path.name} names a file of voxels outside its folder ({name[:80]}).",
            "Put the file beside the header and name it there without a folder.",
        )
    if not file.is_file():
        raise CaseError(
            f"{path.name} names a file of voxels that does not exist ({name[:80]}).",
            "Restore the file beside the header.",
        )
    return file
