"""NumPy's .npy and .npz, mapped where they lie; pickled objects are never loaded.

A compressed member of a .npz is inflated once, at the first read.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.containers.array_rules import plain_axes
from pipeline.io.readers.containers.arrays import DEFLATE_RATIO, ArraySource, StoredArray, chosen
from pipeline.io.readers.containers.room import DAMAGE as STREAM_DAMAGE
from pipeline.io.readers.containers.room import RAW, Deflated, Inflated
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Shape

DAMAGE: tuple[type[Exception], ...] = (
    *STREAM_DAMAGE,
    OSError,
    ValueError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways in which numpy packs a member."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""A zip member's own header: signature, then lengths of name and extra field at its end."""


class Header(NamedTuple):
    """What a .npy header says."""

    shape: Shape
    fortran: bool
    dtype: np.dtype[Any]
    offset: int
    """Where its elements begin, bytes from the header's first."""

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * self.dtype.itemsize


def open_source(path: Path, role: Role) -> ArraySource:
    """Open a .npy file; images and masks are read alike."""
    with damage_is_a_case_error(path, *DAMAGE), path.open("rb") as file:
        header = _header(file, path)
    return _source(path, header, _mapped(path, header, 0))


def open_container(path: Path, role: Role, item: str | None) -> ArraySource:
    """Open an array of a .npz file.

    Args:
        path: The file.
        role: Images and masks are read alike.
        item: Name of the array; None: the only one.
    """
    with damage_is_a_case_error(path, *DAMAGE), zipfile.ZipFile(path) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
        member = members[chosen(path, _arrays(archive, members, path), item)]
        _refuse_member(path, member)
        with archive.open(member) as file:
            header = _header(file, path)
        if header.offset + header.nbytes != member.file_size:
            raise ValueError(f"{member.file_size} bytes for an array of {header.shape}")
        start = _start(path, member)
    if member.compress_type == zipfile.ZIP_STORED:
        return _source(path, header, _mapped(path, header, start))
    held, crc = member.compress_size, member.CRC
    stream = Deflated(path, start, held, header.offset, header.nbytes, RAW, crc)
    return _source(path, header, Inflated(stream, partial(_shaped, header=header)))


def _arrays(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path) -> list[str]:
    """Names of the members with two axes or more; of a single one its error tells more."""
    names = [n for n, m in members.items() if m.filename.endswith(".npy")]
    return names if len(names) == 1 else [n for n in names if _is_array(archive, members[n], path)]


def _is_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bool:
    if member.flag_bits & 1 or member.compress_type not in METHODS:
        return True
    try:
        with archive.open(member) as file:
            return len(_header(file, path).shape) >= 2
    except CaseError:
        return False


def _refuse_member(path: Path, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 1 or member.compress_type not in METHODS:
        raise CaseError(
            f"{path.name} packs {member.filename} in a way that numpy does not.",
            "Save it again with numpy.savez or numpy.savez_compressed.",
        )
    # zlib's headers and the block that ends the stream may be all there is of a tiny array.
    if member.file_size > (member.compress_size + 64) * DEFLATE_RATIO:
        raise ValueError(f"{member.compress_size} bytes claim to hold {member.file_size}")


def _header(file: IO[bytes], path: Path) -> Header:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise CaseError(
            f"{path.name} holds pickled Python objects: opening them would run their code.",
            "Save the voxels as an array of numbers.",
        )
    if any(n < 0 for n in shape):
        raise ValueError(f"an array of shape {shape}")
    return Header(tuple(shape), fortran, dtype, file.tell())


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin in the file."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        signature, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError("a zip member without a header")
    return member.header_offset + LOCAL_HEADER.size + int(name) + int(extra)


def _mapped(path: Path, header: Header, start: int) -> NDArray[Any]:
    with damage_is_a_case_error(path, *DAMAGE):
        held = path.stat().st_size - start - header.offset
        if header.nbytes > held:
            raise ValueError(f"{held} bytes for an array of {header.shape}")
        if header.nbytes == 0:
            return np.empty(header.shape, header.dtype)
        raw = np.memmap(path, np.uint8, "r", start + header.offset, (header.nbytes,))
        return _shaped(raw, header)


def _shaped(raw: NDArray[np.uint8], header: Header) -> NDArray[Any]:
    order = "F" if header.fortran else "C"
    return raw.view(header.dtype).reshape(header.shape, order=order)  # type: ignore[call-overload, no-any-return]


def _source(path: Path, header: Header, lent: NDArray[Any] | Inflated) -> ArraySource:
    axes = plain_axes(header.shape, header.dtype, path)
    stored = StoredArray(header.shape, header.dtype, axes, lambda box: lent[box])
    if header.fortran:
        turned = header.shape[::-1]
        stored = StoredArray(turned, header.dtype, axes[::-1], lambda box: lent[box[::-1]].T)
    return ArraySource(path, stored, DAMAGE)
