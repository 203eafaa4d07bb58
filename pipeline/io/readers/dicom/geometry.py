"""Slices in their order and in their place: DICOM's LPS positions to an affine in RAS+.

Order comes from the positions along the slices' normal (DICOM PS3.3, C.7.6.2.1.1), never from
names, and from numbers only where no slice has a position. Whatever does not fill a regular grid
is refused: a volume with a hole, or with a slice out of place, misleads in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.dicom.frames import Frame
from pipeline.io.readers.dicom.spacing import Axis, refuse_uneven, slack
from pipeline.space import Grid
from pipeline.space.grid import as_affine, voxel_grid

Array = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# How far directions, or voxel sizes in millimetres, may differ: writers keep few digits.
SAME = 1e-3
PLANES = ("sagittal", "coronal", "axial")
WHOLE_HEADERS = "Export the series anew with whole headers, or remove it."


@dataclass(frozen=True)
class Stack:
    """Where the slices of a volume are."""

    order: tuple[int, ...]
    """Index of the frame that is each slice, first slice first."""
    grid: Grid
    """(Z, Y, X) in millimetres; (Y, X) for one slice that says neither place nor thickness."""
    placed: bool
    """Whether the headers say where the slices are, not only how far apart."""


def stack(frames: Sequence[Frame], rows: int, columns: int) -> Stack:
    """Order slices and place them.

    Args:
        frames: The slices, in any order; at least one.
        rows: Voxels down a column, Y.
        columns: Voxels along a row, X.

    Raises:
        CaseError: Slices are missing, occur twice, are unevenly spaced, differ in direction or
            voxel size, or do not say how they follow each other.
    """
    _refuse_mixed(frames)
    adrift = sum(not (f.position and f.orientation and f.spacing) for f in frames)
    if adrift == len(frames):
        return _by_rank(frames, rows, columns)
    if adrift:
        raise CaseError(
            f"its slices do not all say where they are: {adrift} of {len(frames)} have no "
            "position, direction or voxel size.",
            WHOLE_HEADERS,
        )
    if len(frames) == 1 and not _depth(frames[0]):
        return _by_rank(frames, rows, columns)
    return _by_position(frames, rows, columns)


def _by_position(frames: Sequence[Frame], rows: int, columns: int) -> Stack:
    directions, spacing = np.array(frames[0].orientation), np.array(frames[0].spacing)
    normal = np.cross(directions[:3], directions[3:])
    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    order = _sorted(positions @ normal, frames)
    if len(frames) > 1:
        refuse_uneven((positions @ normal)[order], Axis.POSITION)
    affine = np.eye(4)
    affine[:3, 0] = _step(positions[order]) if len(frames) > 1 else normal * _depth(frames[0])
    affine[:3, 1] = directions[3:] * spacing[0]
    affine[:3, 2] = directions[:3] * spacing[1]
    affine[:3, 3] = positions[order[0]]
    grid = Grid((len(frames), rows, columns), as_affine(LPS_TO_RAS @ affine), "millimeter")
    return Stack(tuple(order), grid, placed=True)


def _step(positions: Array) -> Array:
    """From slice to slice, LPS millimetres; not along the normal where the gantry was tilted."""
    step: Array = (positions[-1] - positions[0]) / (len(positions) - 1)
    line = positions[0] + np.arange(len(positions))[:, None] * step
    aside = float(np.linalg.norm(positions - line, axis=1).max())
    if aside > slack(float(np.linalg.norm(step))):
        raise CaseError(
            f"its slices do not lie on one line: they are shifted sideways by up to {aside:.2g} "
            "mm.",
            "Export the series anew, or resample it to a regular grid.",
        )
    return step


def _by_rank(frames: Sequence[Frame], rows: int, columns: int) -> Stack:
    """Slices without a place, in the order of their locations or numbers."""
    spacing = frames[0].spacing
    if len(frames) == 1:
        return Stack((0,), _flat_grid(spacing, rows, columns), placed=False)
    ranks, step = _ranks(frames)
    if not step or spacing is None:
        unknown = "how far apart they are" if spacing else "how large their voxels are"
        raise CaseError(
            f"its {len(frames)} slices have no positions, and do not say {unknown}: they may be "
            "a film.",
            WHOLE_HEADERS,
        )
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (step, *spacing, 1.0)
    grid = Grid((len(frames), rows, columns), as_affine(affine), "millimeter")
    return Stack(tuple(_sorted(ranks, frames)), grid, placed=False)


def _ranks(frames: Sequence[Frame]) -> tuple[Array, float | None]:
    """What orders slices without positions, and their distance in millimetres, where known."""
    locations = [frame.location for frame in frames if frame.location is not None]
    if len(set(locations)) == len(frames):
        refuse_uneven(np.sort(locations), Axis.POSITION)
        return np.array(locations), (max(locations) - min(locations)) / (len(frames) - 1)
    numbers = [frame.number for frame in frames if frame.number is not None]
    if len(numbers) < len(frames):
        raise CaseError(
            f"its {len(frames)} slices have neither positions nor numbers: their order is unknown.",
            WHOLE_HEADERS,
        )
    refuse_uneven(np.sort(numbers), Axis.NUMBER)
    return np.array(numbers), frames[0].between or frames[0].thickness


def _flat_grid(spacing: tuple[float, ...] | None, rows: int, columns: int) -> Grid:
    if spacing is None:
        return voxel_grid((rows, columns))
    affine = [[0.0, spacing[1], 0.0], [spacing[0], 0.0, 0.0], [0.0, 0.0, 1.0]]
    return Grid((rows, columns), as_affine(affine), "millimeter")


def _sorted(values: Array, frames: Sequence[Frame]) -> list[int]:
    ranked = [
        (float(v), frame.number or 0.0, i)
        for i, (v, frame) in enumerate(zip(values, frames, strict=True))
    ]
    return [i for _, _, i in sorted(ranked)]


def _depth(frame: Frame) -> float:
    return frame.thickness or frame.between or 0.0


# Slices of several kinds


def _refuse_mixed(frames: Sequence[Frame]) -> None:
    directions = np.array([f.orientation for f in frames if f.orientation])
    kinds = _kinds(directions)
    if len(kinds) > 1:
        named = " and ".join(f"{count} {_plane(kind)}" for kind, count in kinds)
        raise CaseError(
            f"its {len(frames)} slices lie in {len(kinds)} directions ({named}): a localizer, or "
            "several scans in one series.",
            "Give each scan its own series, or remove the localizer.",
        )
    sizes = _kinds(np.array([f.spacing for f in frames if f.spacing]))
    if len(sizes) > 1:
        named = " and ".join(f"{size[0]:g} × {size[1]:g} mm" for size, _ in sizes)
        raise CaseError(
            f"its slices have voxels of {len(sizes)} sizes ({named}).",
            "Give each scan its own series.",
        )


def _kinds(rows: Array) -> list[tuple[Array, int]]:
    """Rows that differ, each with the number of those like it."""
    kinds = []
    while len(rows):
        alike = np.abs(rows - rows[0]).max(axis=1) <= SAME
        kinds.append((rows[0], int(alike.sum())))
        rows = rows[~alike]
    return kinds


def _plane(directions: Array) -> str:
    normal = np.abs(np.cross(directions[:3], directions[3:]))
    return PLANES[int(normal.argmax())] if normal.max() > 0.9 else "oblique"
