"""Headers of NRRD, .nrrd and .nhdr: lines of ``field: value`` up to an empty one.

https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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

ALIASES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        *("longlong", "long long", "long long int", "signed long long"),
        *("signed long long int", "int64", "int64_t"),
    ),
    "u8": (*("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),),
    "f4": ("float",),
    "f8": ("double",),
}
TYPES = {name: code for code, names in ALIASES.items() for name in names}
DOMAIN = ("domain", "space", "time", "???", "none", "unknown")
"""Kinds of axes along which voxels are counted; all other kinds are of channels."""
UNREADABLE = ("complex", "3d-masked-symmetric-matrix", "2d-masked-symmetric-matrix")
# Signs that turn a space's coordinates into LPS.
SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("right-anterior-superior-time", "rast"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior-time", "last"), (1, -1, 1)),
}
SPELT = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip"}
VECTOR = re.compile(r"none|\([^()]*\)")


@dataclass(frozen=True)
class _Axes:
    """Which axes of the file are what."""

    sizes: tuple[int, ...]
    """Size of each, the fastest first."""
    spatial: tuple[int, ...]
    """Two or three that are of space."""
    channel: int | None
    """The one of channels; None: there is none."""


def read_header(path: Path) -> ItkHeader:
    """Read an NRRD header.

    Raises:
        ValueError: It is damaged.
        CaseError: It describes what segflow does not read.
    """
    with path.open("rb") as file:
        fields = _fields(file)
        axes = _axes(fields, path)
        names = _names(fields, file, axes.sizes[-1])
        end = file.tell()
    deflated = _deflated(fields, path)
    if int(fields.get("line skip", "0")) != 0 or (deflated and len(names) > 1):
        raise refuse_text(path, "lines of text, or several compressed parts")
    skip = int(fields.get("byte skip", "0"))
    if skip < (0 if deflated else -1):
        raise ValueError(f"its header passes over {skip} bytes")
    steps, origin = _geometry(fields, axes, path)
    return ItkHeader(
        path=path,
        shape=tuple(axes.sizes[axis] for axis in reversed(axes.spatial)),
        dtype=_dtype(fields, path),
        channels=1 if axes.channel is None else axes.sizes[axes.channel],
        interleaved=axes.channel in (None, 0),
        steps=steps,
        origin=origin,
        placed="space directions" in fields or "spacings" in fields,
        files=tuple(inside(path, name) for name in names) or (path,),
        start=0 if names else end,
        skip=skip,
        deflated=deflated,
    )


def _fields(file: IO[bytes]) -> dict[str, str]:
    """Fields of the header, up to the empty line or the list of files with which it ends."""
    if re.fullmatch(rb"NRRD000\d\s*", file.readline(16)) is None:
        raise ValueError("it does not begin with an NRRD header")
    fields: dict[str, str] = {}
    while text := file.readline(HEADER_BYTES).decode(*TEXT).strip():
        if file.tell() > HEADER_BYTES:
            raise ValueError("its header does not end")
        name, colon, value = f"{text} ".partition(": ")
        if text.startswith("#") or ":=" in name:
            continue
        name = SPELT.get(name.strip().lower(), name.strip().lower())
        if not colon or name in fields:
            raise ValueError(f"its header has {name[:40]!r} twice, or without a value")
        fields[name] = value.strip()
        if _is_list(fields):
            break
    return fields


def _is_list(fields: dict[str, str]) -> bool:
    return fields.get("data file", "").split()[:1] == ["LIST"]


def _names(fields: dict[str, str], file: IO[bytes], slowest: int) -> list[str]:
    """Names of the files that hold the voxels; none where they follow the header."""
    if "data file" not in fields:
        return []
    if _is_list(fields):
        return listed_files(file, slowest)
    return numbered_files(fields["data file"], slowest) or [fields["data file"]]


def _deflated(fields: dict[str, str], path: Path) -> bool:
    encoding = needed(fields, "encoding").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise refuse_text(path, encoding[:40])
    return encoding != "raw"


def _dtype(fields: dict[str, str], path: Path) -> np.dtype[Any]:
    stored = element_type(TYPES, needed(fields, "type").lower(), path)
    if stored.itemsize == 1:
        return stored
    order = {"little": "<", "big": ">"}[needed(fields, "endian").lower()]
    return stored.newbyteorder(order)  # type: ignore[arg-type]


def _axes(fields: dict[str, str], path: Path) -> _Axes:
    sizes = integers(needed(fields, "sizes"))
    count = len(sizes)
    kinds = fields.get("kinds", " ".join(["domain"] * count)).lower().split()
    vectors = _vectors(fields, count)
    given = {count, int(needed(fields, "dimension")), len(kinds)}
    if not 2 <= count <= 4 or min(sizes) < 1 or len(given) > 1:
        raise ValueError(f"it has axes of sizes {sizes[:8]} and kinds {kinds[:8]}")
    of_space = [kinds[a] in DOMAIN and vectors[a] != "none" for a in range(count)]
    spatial = tuple(a for a in range(count) if of_space[a])[:3]
    rest = [a for a in range(count) if a not in spatial]
    channel = rest[0] if rest else None
    unreadable = any(kind in UNREADABLE for kind in kinds)
    if len(rest) > 1 or len(spatial) < 2 or channel not in (None, 0, count - 1) or unreadable:
        raise CaseError(
            f"{path.name} has axes of kinds {', '.join(kinds)[:80]}: two or three of space are "
            "expected, and one of channels before or behind them.",
            "Reorder or split its axes.",
        )
    return _Axes(sizes, spatial, channel)


def _vectors(fields: dict[str, str], count: int) -> list[str]:
    """The space direction of each axis, as written; an empty one where there are none."""
    if "space directions" not in fields:
        return [""] * count
    vectors = VECTOR.findall(fields["space directions"])
    if len(vectors) != count:
        raise ValueError(f"it has {len(vectors)} space directions for {count} axes")
    return vectors


def _geometry(
    fields: dict[str, str], axes: _Axes, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps, one column per axis, and origin, both in millimetres LPS."""
    count = len(axes.spatial)
    if "space directions" not in fields:
        return _spaced(fields, axes, path)
    vectors = _vectors(fields, len(axes.sizes))
    # Space may have a fourth axis, of time: its part of each vector goes.
    space = sum(vector != "none" for vector in vectors)
    columns = [_vector(vectors[axis], space)[:count] for axis in axes.spatial]
    origin = _vector(fields.get("space origin", "0 " * space), space)[:count]
    signs = np.asarray(SPACES.get(fields.get("space", "").lower(), (1, 1, 1))[:count])
    return signs[:, None] * np.stack(columns, axis=1), signs * origin


def _vector(text: str, count: int) -> NDArray[np.float64]:
    return reals(text.strip("()").replace(",", " "), count)


def _spaced(
    fields: dict[str, str], axes: _Axes, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and origin of a file that gives spacings, or nothing."""
    count, spatial = len(axes.sizes), list(axes.spatial)
    unknown = " ".join(["nan"] * count)
    spacings = np.nan_to_num(reals(fields.get("spacings", unknown), count)[spatial], nan=1.0)
    first = reals(fields.get("axis mins", unknown), count)[spatial]
    if np.isnan(first).any():
        return np.diag(spacings), np.zeros(len(spatial))
    if "spacings" not in fields:
        raise CaseError(
            f"{path.name} gives the ends of its axes and no spacings.",
            "Write spacings or space directions into its header.",
        )
    centers = fields.get("centers", fields.get("centerings", " ".join(["cell"] * count))).split()
    inset = [0.0 if centers[axis] == "node" else 0.5 for axis in spatial]
    return np.diag(spacings), first + np.asarray(inset) * spacings
