"""Headers of MetaImage, .mha and .mhd: lines of ``Key = value``, the last names the voxels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.medical.itk_header import (
    HEADER_BYTES,
    TEXT,
    ItkHeader,
    element_type,
    inside,
    integers,
    listed_files,
    needed,
    numbered_files,
    reals,
    refuse_text,
)

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    # Four bytes wherever it was written: the format fixes what C leaves open.
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
SPACING = ("ElementSpacing", "ElementSize")
ORIGIN = ("Offset", "Position", "Origin")
DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
SIGN = re.compile("[=:]")
LAST = "ElementDataFile"


def read_header(path: Path) -> ItkHeader:
    """Read a MetaImage header.

    Raises:
        ValueError: It is damaged.
        CaseError: It describes what segflow does not read.
    """
    with path.open("rb") as file:
        fields = _fields(file)
        end = file.tell()
        sizes = _sizes(fields)
        names = _names(fields[LAST], file, sizes[-1])
    header_size = int(fields.get("HeaderSize", "0"))
    deflated = _true(fields.get("CompressedData", "False"))
    if not _true(fields.get("BinaryData", "True")):
        raise refuse_text(path, "text")
    if deflated and (header_size != 0 or len(names) > 1):
        raise refuse_text(path, "several compressed parts")
    channels, interleaved = _channels(path, fields, sizes)
    files = tuple(inside(path, name) for name in names) or (path,)
    spatial = sizes[:3]
    return ItkHeader(
        path=path,
        shape=spatial[::-1],
        dtype=_dtype(fields, path),
        channels=channels,
        interleaved=interleaved,
        steps=_steps(fields, len(sizes), len(spatial)),
        origin=_numbers(fields, ORIGIN, np.zeros(len(sizes)))[: len(spatial)],
        placed=any(key in fields for key in (*SPACING, *ORIGIN, *DIRECTIONS)),
        files=files,
        start=header_size if header_size > 0 else 0 if names else end,
        skip=min(header_size, 0),
        deflated=deflated,
    )


def _fields(file: IO[bytes]) -> dict[str, str]:
    """Keys and values up to the one that names the voxels, with which the header ends."""
    fields: dict[str, str] = {}
    while LAST not in fields:
        line = file.readline(HEADER_BYTES)
        key, sign, value = SIGN.sub("=", line.decode(*TEXT), count=1).partition("=")
        if not sign or file.tell() > HEADER_BYTES:
            raise ValueError("it does not begin with a MetaImage header")
        if key.strip() in fields:
            raise ValueError(f"its header has {key.strip()[:40]} twice")
        fields[key.strip()] = value.strip()
    return fields


def _sizes(fields: dict[str, str]) -> tuple[int, ...]:
    count = int(needed(fields, "NDims"))
    if not 2 <= count <= 4:
        raise ValueError(f"it has {count} axes, 2 to 4 are expected")
    sizes = integers(needed(fields, "DimSize"), count)
    if min(sizes) < 1:
        raise ValueError(f"its axes have sizes {sizes}")
    return sizes


def _names(value: str, file: IO[bytes], slowest: int) -> list[str]:
    """Names of the files that hold the voxels; none where they follow the header."""
    if value.upper() == "LOCAL":
        return []
    if value.upper().split()[:1] == ["LIST"]:
        return listed_files(file, slowest)
    return numbered_files(value, slowest) or [value]


def _true(value: str) -> bool:
    return value[:1].lower() in ("t", "1", "y")


def _channels(path: Path, fields: dict[str, str], sizes: tuple[int, ...]) -> tuple[int, bool]:
    """Size of the channel axis, and whether it runs fastest; a fourth axis is one that does not."""
    components = int(fields.get("ElementNumberOfChannels", "1"))
    if components < 1:
        raise ValueError(f"its voxels have {components} channels")
    if len(sizes) < 4:
        return components, True
    if components > 1:
        raise CaseError(
            f"{path.name} has {components} channels and a fourth axis: one of them is expected.",
            "Split it into files of three axes.",
        )
    return sizes[3], False


def _dtype(fields: dict[str, str], path: Path) -> np.dtype[np.generic]:
    name = needed(fields, "ElementType").upper().removesuffix("_ARRAY")
    big = _true(next((fields[key] for key in BIG_ENDIAN if key in fields), "False"))
    return element_type(TYPES, name, path).newbyteorder(">" if big else "<")


def _numbers(
    fields: dict[str, str], keys: tuple[str, ...], default: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Numbers of the first of several keys that is there."""
    found = next((fields[key] for key in keys if key in fields), None)
    return default if found is None else reals(found, default.size)


def _steps(fields: dict[str, str], axes: int, spatial: int) -> NDArray[np.float64]:
    spacing = _numbers(fields, SPACING, np.ones(axes))
    # A row of the file is the direction of one axis; here it is a column.
    directions = _numbers(fields, DIRECTIONS, np.eye(axes).ravel()).reshape(axes, axes).T
    with np.errstate(invalid="ignore", over="ignore"):  # what is infinite is refused later
        steps: NDArray[np.float64] = (directions * spacing)[:spatial, :spatial]
    return steps
