"""Masks that hold numbers to predict, not classes: heights, depths, indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.ingest.checking.numbers import MARKS
from pipeline.init.families import SEPARATOR
from pipeline.init.found import Notes
from pipeline.init.tree import kind_of, spread
from pipeline.init.values import MOST_VALUES, windows
from pipeline.io.discover import CASE, CaseFiles
from pipeline.io.location import scratch
from pipeline.io.opening import open_origin
from pipeline.io.origin import Origin
from pipeline.io.readers import Source, case_id

LOOKED_AT = 5
"""Masks that are looked at: some may be flat."""
LOOKED_AT_VOXELS = 2**22
"""Voxels of each, about."""
ALONE = 0.5
"""Share of the voxels that do not have a common value, from which values are numbers."""


@dataclass(frozen=True)
class Numbers:
    """What masks of numbers hold."""

    dtype: str
    """Type of the first such mask."""
    low: float
    """Least number, marks left out."""
    high: float
    """Largest number, marks left out."""
    marks: tuple[int, ...]
    """Numbers that likely mean "not measured"."""
    read: int
    """Masks looked at."""


def numbers_in(cases: Sequence[CaseFiles]) -> Numbers | None:
    """What the masks of a dataset hold, where it is numbers; None where it may be classes.

    Args:
        cases: Cases with masks.
    """
    chosen = [files.mask for files in spread(cases, LOOKED_AT) if files.mask is not None]
    samples = [found for mask in chosen if (found := _sample(mask)) is not None]
    telling = [(dtype, voxels) for dtype, voxels in samples if _are_numbers(voxels)]
    if not telling:
        return None
    known = np.concatenate([_finite(voxels) for _, voxels in samples])
    marks = _marks(known)
    known = known[~np.isin(known, marks)]
    return Numbers(telling[0][0], float(known.min()), float(known.max()), marks, len(samples))


def holds_numbers(origin: Origin) -> bool:
    """Whether a mask holds numbers to predict."""
    found = _sample(origin)
    return found is not None and _are_numbers(found[1])


def _sample(mask: Origin) -> tuple[str, NDArray[np.float64]] | None:
    """Type and some voxels of a mask, NaN where it says nothing; None of what holds classes."""
    if mask.is_vector or mask.stack == "objects":
        return None
    try:
        with scratch() as folder:
            source = open_origin(mask, "mask", folder)
            # A picture of one byte is an image by mistake, or a mask that JPEG has blurred.
            if source.channels != 1 or source.dtype.itemsize < 2:
                return None
            return str(source.dtype), _voxels(source)
    except CaseError:
        return None


def _voxels(source: Source) -> NDArray[np.float64]:
    """Lines of the last axis, one below the other, NaN where nothing is said."""
    lines: list[NDArray[np.float64]] = []
    width = source.grid.shape[-1]
    for window in takewhile(lambda _: sum(map(np.size, lines)) < LOOKED_AT_VOXELS, windows(source)):
        volume = source.read(window)
        voxels = volume.array[0].astype(np.float64)
        if volume.valid is not None:
            voxels[~volume.valid] = np.nan
        flat = voxels.reshape(-1, window.shape[-1])
        lines.append(np.pad(flat, ((0, 0), (0, width - flat.shape[1])), constant_values=np.nan))
    return np.concatenate(lines)


def _finite(voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    return voxels[np.isfinite(voxels)]


def _are_numbers(voxels: NDArray[np.float64]) -> bool:
    """Whether most voxels have values of their own, as neither classes nor objects have.

    The commonest value may be any part of it (flat ground). Of labels that resampling has blurred,
    most still have one of few values; objects that are numbered have neighbours of one number.
    """
    values, counts = np.unique(_finite(voxels), return_counts=True)
    if len(values) <= MOST_VALUES:
        return False
    counts = np.sort(counts)[-2::-1]
    if counts[:MOST_VALUES].sum() > (1 - ALONE) * counts.sum():
        return False
    return bool(np.any(values != np.rint(values))) or (
        len(values) > 256 and _neighbours_differ(voxels)
    )


def _neighbours_differ(voxels: NDArray[np.float64]) -> bool:
    commonest, counts = np.unique(_finite(voxels), return_counts=True)
    left, right = voxels[:, :-1], voxels[:, 1:]
    told = np.isfinite(left) & np.isfinite(right) & (left != commonest[counts.argmax()])
    return bool(told.any() and np.mean(left[told] != right[told]) > ALONE)


def _marks(known: NDArray[np.float64]) -> tuple[int, ...]:
    """Numbers at either end that are marks by custom, and far from all others."""
    values = np.unique(known)
    found = []
    for end, next_to in ((0, 1), (-1, -2)):
        others = values[~np.isin(values, MARKS)]
        gap = abs(values[end] - values[next_to])
        if values[end] in MARKS and len(others) and gap > np.ptp(others):
            found.append(int(values[end]))
    return tuple(found)


def reasons(found: Numbers) -> Notes:
    """Comments for run.yaml."""
    notes = {
        "data.task": [
            f"In {found.read} masks read, most voxels have a value of their own ({found.dtype}, "
            f"{found.low:.6g} to {found.high:.6g}): numbers to predict, no classes."
        ],
        "data.target": ["Name it after what the numbers are: height_m, depth_mm, ndvi."],
        "data.ignore_values": [
            "If 0, or another value, means that nothing was measured, name it here."
        ],
        "patch.foreground": ["Of no effect here: every patch is placed on a voxel with a number."],
    }
    if found.marks:
        listed = ", ".join(map(str, found.marks))
        notes["data.ignore_values"] = [f'Taken for "not measured", far from the others: {listed}.']
    return notes


def target_name(masks: str) -> str:
    """What numbers are called, by where the masks are; ``value`` where that does not tell.

    Example:
        >>> target_name("heights"), target_name("{case}_depth.tif"), target_name("train/masks")
        ('heights', 'depth', 'value')
    """
    for part in reversed(masks.replace("::", "/").split("/")):
        name = case_id(Path(part)) if CASE in part else part
        told = [word for word in SEPARATOR.split(name.replace(CASE, " ")) if word]
        if told:
            return next((word for word in reversed(told) if kind_of(word) is None), "value")
    return "value"
