"""Place and calibration of each frame of a DICOM file: its own elements, or functional groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from pydicom.dataset import Dataset

from pipeline.io.readers.dicom.elements import items, number, numbers, shared, vector

GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
# How far directions may be from unit length and from a right angle: writers keep few digits.
SQUARE = 1e-2


@dataclass(frozen=True, slots=True)
class Frame:
    """Place and calibration of one slice; None where the header does not say."""

    position: tuple[float, ...] | None
    """Centre of the first voxel, (x, y, z) LPS millimetres."""
    orientation: tuple[float, ...] | None
    """Unit vectors along a row of voxels and down a column, LPS, one after the other."""
    spacing: tuple[float, ...] | None
    """Millimetres between rows, then between columns."""
    thickness: float | None
    """Millimetres through the slice."""
    between: float | None
    """Millimetres from slice to slice."""
    location: float | None
    """Millimetres along an axis of the scanner's choice."""
    number: float | None
    """Rank in the series: the instance's number, or the frame's in its file."""
    slope: float
    """Factor from stored to real values."""
    intercept: float
    """Added to the scaled value."""


def frames_of(elements: Dataset, count: int) -> Iterator[Frame]:
    """The frames of a file, each by its own group, else by the one all share, else by the file.

    Args:
        elements: The header.
        count: Frames that it announces.
    """
    common = items(elements, "SharedFunctionalGroupsSequence")[:1]
    each = items(elements, "PerFrameFunctionalGroupsSequence")
    rank = number(elements, "InstanceNumber")
    for index in range(count):
        groups = [*each[index : index + 1], *common]
        yield _frame(elements, groups, rank if count == 1 else index + 1.0, alone=count == 1)


def _frame(elements: Dataset, groups: list[Dataset], rank: float | None, *, alone: bool) -> Frame:
    def find(keyword: str) -> Dataset:
        held = (item for group in groups for item in items(group, GROUPS[keyword])[:1])
        return next((item for item in held if numbers(item, keyword)), elements)

    at = find("ImagePositionPatient")
    return Frame(
        # A file's own position is that of its first frame only.
        position=vector(at, "ImagePositionPatient", 3) if alone or at is not elements else None,
        orientation=_directions(find("ImageOrientationPatient")),
        spacing=_spacing(find("PixelSpacing")),
        thickness=_length(find("SliceThickness"), "SliceThickness"),
        between=_length(find("SpacingBetweenSlices"), "SpacingBetweenSlices"),
        location=number(elements, "SliceLocation") if alone else None,
        number=rank,
        slope=number(find("RescaleSlope"), "RescaleSlope") or 1.0,
        intercept=number(find("RescaleIntercept"), "RescaleIntercept") or 0.0,
    )


def _length(elements: Dataset, keyword: str) -> float | None:
    return abs(number(elements, keyword) or 0.0) or None


def _spacing(elements: Dataset) -> tuple[float, ...] | None:
    """Distance of rows and of columns; of radiographs at the detector, where no other is known."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        found = vector(elements, keyword, 2)
        if found is not None and min(found) > 0:
            return shared(found)
    return None


def _directions(elements: Dataset) -> tuple[float, ...] | None:
    """Two unit vectors at a right angle, as good as none where they are not."""
    found = vector(elements, "ImageOrientationPatient", 6)
    if found is None:
        return None
    row, column = found[:3], found[3:]
    lengths = [sqrt(sum(v * v for v in axis)) for axis in (row, column)]
    angle = sum(a * b for a, b in zip(row, column, strict=True))
    square = abs(angle) < SQUARE and all(abs(n - 1) < SQUARE for n in lengths)
    return shared(found) if square else None
