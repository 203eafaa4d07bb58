"""Whether the files of a series make one volume, and which: checked by their headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.uid import UID

from pipeline.errors import CaseError
from pipeline.io.readers.dicom.calibration import value_dtype
from pipeline.io.readers.dicom.file import Unusable
from pipeline.io.readers.dicom.frames import Frame
from pipeline.io.readers.dicom.geometry import Stack, stack
from pipeline.io.readers.dicom.header import Header
from pipeline.io.readers.dicom.pixels import decoder_of, fits_its_file
from pipeline.io.readers.dicom.quiet import quiet
from pipeline.io.readers.source import Role

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
BITS = {"PixelData": (8, 16, 32), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}
OWN_SERIES = "Give each scan its own series."
CONVERT = "Convert the series with dcmconv, gdcmconv or the like, or remove it."
COPY = "Copy the series again from its source."


@dataclass(frozen=True)
class Part:
    """A slice of a volume: a frame of a file."""

    file: int
    """Which of the volume's headers."""
    index: int
    """Which frame of that file."""
    frame: Frame


@dataclass(frozen=True)
class Arranged:
    """Files that make one volume."""

    headers: tuple[Header, ...]
    parts: tuple[Part, ...]
    """Slices in order."""
    stack: Stack
    dtype: np.dtype[Any]
    """Type of the values of all slices."""


def arrange(found: Sequence[Header | Unusable], role: Role = "image") -> Arranged:
    """Order the files of a series as one volume.

    Args:
        found: What ``read_header`` gave for each file.
        role: Colours of a palette are refused in an image; in a mask their numbers are labels.

    Raises:
        CaseError: They do not make one volume of voxels that can be read.
    """
    headers = _usable(found)
    _refuse_unlike(headers)
    _refuse_unreadable(headers, role)
    parts = [
        Part(file, index, frame)
        for file, header in enumerate(headers)
        for index, frame in enumerate(header.frames)
    ]
    form = headers[0].format
    placed = stack([part.frame for part in parts], form.rows, form.columns)
    ordered = tuple(parts[i] for i in placed.order)
    return Arranged(tuple(headers), ordered, placed, value_dtype(headers))


def damaged(count: int, total: int) -> CaseError:
    """The error for a series of which files are damaged; a file's name may be its patient's."""
    which = "its file" if total == 1 else f"{count} of its {total} files"
    return CaseError(f"{which} cannot be read: truncated or damaged.", COPY)


def _usable(found: Sequence[Header | Unusable]) -> list[Header]:
    if not found:
        raise CaseError("its series has no files.", "Add its files, or remove the case.")
    headers = [header for header in found if isinstance(header, Header)]
    if foreign := sum(h in (Unusable.FOREIGN, Unusable.OTHER) for h in found):
        which = "its file is" if len(found) == 1 else f"{foreign} of its {len(found)} files are"
        raise CaseError(f"{which} no DICOM image.", "Take out what is no image.")
    broken = len(found) - sum(_whole(header) for header in headers)
    if broken:
        raise damaged(broken, len(found))
    return headers


def _whole(header: Header) -> bool:
    form = header.format
    sized = min(form.rows, form.columns, form.samples) > 0
    return sized and 0 < form.bits_stored <= form.bits_allocated and fits_its_file(header)


def _refuse_unlike(headers: Sequence[Header]) -> None:
    """Refuse files that differ in what all slices of a volume share."""
    series = {header.series_uid for header in headers}
    if len(series) > 1:
        raise CaseError(f"its {len(headers)} files are of {len(series)} series.", OWN_SERIES)
    _refuse_several(headers, "sizes", lambda h: f"{h.format.rows} × {h.format.columns} voxels")
    _refuse_several(headers, "kinds of values", _kind)


def _refuse_several(headers: Sequence[Header], what: str, tell: Callable[[Header], str]) -> None:
    counts = Counter(map(tell, headers))
    if len(counts) > 1:
        named = " and ".join(f"{n} of {kind}" for kind, n in counts.most_common(3))
        raise CaseError(
            f"its {len(headers)} files have {len(counts)} {what} ({named}).", OWN_SERIES
        )


def _kind(header: Header) -> str:
    known = (*GREY, PALETTE, *COLOURS)
    photometric = header.format.photometric
    named = photometric if photometric in known else "an unknown kind"
    floating = "" if header.pixels.kind == "PixelData" else " (floating point)"
    return f"{named}{floating}, {header.format.samples} per voxel"


def _refuse_unreadable(headers: Sequence[Header], role: Role) -> None:
    """Refuse pixels of a kind that no decoder, or no volume, is made for."""
    first = headers[0]
    form, single = first.format, first.format.photometric in (*GREY, PALETTE)
    if any(header.tiled for header in headers):
        raise CaseError(
            "its pictures are laid out in tiles (a whole slide, or a mosaic of slices).",
            "Convert a slide to a pyramidal TIFF, a mosaic to NIfTI with dcm2niix.",
        )
    if form.photometric == PALETTE and role == "image":
        raise CaseError("its voxels are numbers of a palette's colours.", CONVERT)
    if form.samples != (1 if single else 3) or (not single and form.photometric not in COLOURS):
        raise CaseError(f"its voxels are of a kind that is not read ({_kind(first)}).", CONVERT)
    for header in headers:
        allowed = BITS[header.pixels.kind]
        if header.format.bits_allocated not in allowed:
            raise CaseError(
                f"its voxels have {header.format.bits_allocated} bits: "
                f"{' or '.join(map(str, allowed))} are read.",
                CONVERT,
            )
        if decoder_of(header.pixels.syntax) is None:
            raise CaseError(
                f"its voxels are stored as {_syntax_name(header)}, for which there is no decoder.",
                CONVERT,
            )


def _syntax_name(header: Header) -> str:
    with quiet:
        name = UID(header.pixels.syntax).name
    # A maker's own syntax, or a damaged one, has no name but what the file says.
    return "an unknown transfer syntax" if name == header.pixels.syntax else name
