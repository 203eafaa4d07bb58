"""What a DICOM file says of its pixels and their place: an allow-list, nothing personal.

A header is plain numbers, unique ids and coded words; no name, no date, no free text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from struct import iter_unpack

from pydicom.dataset import Dataset

from pipeline.io.readers.dicom.elements import numbers, raw_bytes, shared, text, whole
from pipeline.io.readers.dicom.file import Opened, PixelPlace, Unusable, open_file
from pipeline.io.readers.dicom.frames import Frame, frames_of
from pipeline.io.readers.dicom.quiet import quiet

ALLOWED = (
    "SOPClassUID",
    "ImageType",
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "SliceLocation",
    "RescaleSlope",
    "RescaleIntercept",
    "Rows",
    "Columns",
    "TotalPixelMatrixColumns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue",
    "FloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue",
    "DoubleFloatPixelPaddingRangeLimit",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
)
# Far above any scan; a header may claim billions.
MOST_FRAMES = 2**17


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the frames of a file are stored."""

    rows: int
    columns: int
    samples: int
    photometric: str
    """What the values mean: MONOCHROME2 (higher is brighter), RGB, PALETTE COLOR..."""
    planar: int
    """1 where colours follow each other by plane, 0 by voxel."""
    bits_allocated: int
    bits_stored: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Header:
    """A file of one or more frames."""

    path: Path
    series_uid: str
    series_number: int | None
    modality: str
    tiled: bool
    """Whether tiles make one large picture, of a slide, or slices one picture, as a mosaic."""
    format: PixelFormat
    pixels: PixelPlace
    offsets: tuple[int, ...]
    """First byte of each encapsulated frame, from the first on; empty where the file has no
    such table."""
    padding: tuple[float, float] | None
    """Stored values from, up to and with, that stand for no data."""
    frames: tuple[Frame, ...]


def read_header(path: Path) -> Header | Unusable:
    """The header of a file, or why it has none."""
    opened = open_file(path, ALLOWED)
    return opened if isinstance(opened, Unusable) else header_of(path, opened)


def header_of(path: Path, opened: Opened) -> Header | Unusable:
    """The header of a file that ``open_file`` has opened."""
    try:
        with quiet:
            return _header(path, opened.elements, opened.pixels)
    # Groups are parsed here, and pydicom answers damage with errors of every type.
    except Exception:
        return Unusable.DAMAGED


def _header(path: Path, elements: Dataset, pixels: PixelPlace) -> Header:
    count = max(1, whole(elements, "NumberOfFrames", 1))
    # No frame is smaller than a byte, however it is compressed.
    if count > min(MOST_FRAMES, pixels.file_bytes):
        raise ValueError(f"{count} frames")
    stored = _format(elements)
    return Header(
        path=path,
        series_uid=shared(text(elements, "SeriesInstanceUID")),
        series_number=next((int(n) for n in numbers(elements, "SeriesNumber")), None),
        modality=shared(text(elements, "Modality")),
        tiled=_is_tiled(elements),
        format=stored,
        pixels=shared(pixels),
        offsets=_offsets(elements, count),
        padding=_padding(elements, pixels, stored.signed),
        frames=tuple(frames_of(elements, count)),
    )


def _is_tiled(elements: Dataset) -> bool:
    slide = bool(numbers(elements, "TotalPixelMatrixColumns"))
    kinds = raw_bytes(elements, "ImageType").split(b"\\")
    return slide or b"MOSAIC" in (kind.strip() for kind in kinds)


def _offsets(elements: Dataset, count: int) -> tuple[int, ...]:
    table = raw_bytes(elements, "ExtendedOffsetTable")
    return tuple(n for (n,) in iter_unpack("<Q", table)) if len(table) == 8 * count else ()


def _format(elements: Dataset) -> PixelFormat:
    allocated = whole(elements, "BitsAllocated", 16)
    told = PixelFormat(
        rows=whole(elements, "Rows", 0),
        columns=whole(elements, "Columns", 0),
        samples=whole(elements, "SamplesPerPixel", 1),
        photometric=text(elements, "PhotometricInterpretation") or "MONOCHROME2",
        planar=whole(elements, "PlanarConfiguration", 0),
        bits_allocated=allocated,
        bits_stored=whole(elements, "BitsStored", allocated),
        signed=whole(elements, "PixelRepresentation", 0) == 1,
    )
    return shared(told)


def _padding(elements: Dataset, pixels: PixelPlace, signed: bool) -> tuple[float, float] | None:
    """The stored values that stand for no data."""
    name = pixels.kind.removesuffix("Data")
    # Some writers declare the signed value unsigned, or the other way round.
    vr = ("SS" if signed else "US") if name == "Pixel" else None
    value = numbers(elements, f"{name}PaddingValue", vr)[:1]
    limit = numbers(elements, f"{name}PaddingRangeLimit", vr)[:1]
    return (min(value + limit), max(value + limit)) if value else None
