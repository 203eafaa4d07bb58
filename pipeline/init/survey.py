"""The values that masks hold, read from the masks themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError, SettingsError
from pipeline.init.values import MOST_VALUES, Values, values
from pipeline.io.discover import CaseFiles
from pipeline.io.location import fetch, scratch
from pipeline.io.opening import open_origin
from pipeline.io.origin import Origin
from pipeline.io.readers.geo.features import read_features

MOST_MASKS, MOST_VOXELS = 300, 10**9
"""Masks that are read, and voxels after which no further one is begun: about a minute."""


@dataclass(frozen=True)
class Survey:
    """The values that masks hold."""

    masks: dict[int, int]
    """Masks that hold a value, by value."""
    missing: set[int]
    """Values that the files themselves declare to be no data."""
    nan: int
    """Masks that hold NaN."""
    read: int
    """Masks that were read."""
    damaged: int
    """Masks that could not be read."""
    of: int
    """Masks there are."""


def survey(cases: Sequence[CaseFiles], attribute: str | None = None) -> Survey:
    """Read masks, evenly spread over the dataset, for their values.

    Args:
        cases: Cases with masks.
        attribute: Field of vector labels that holds the class.

    Raises:
        SettingsError: None can be read, or what they hold are no class numbers.
    """
    step = max(1, -(-len(cases) // MOST_MASKS))
    counts: Counter[int] = Counter()
    missing: set[int] = set()
    read = damaged = nan = voxels = 0
    complaint = ""
    for files in cases[::step]:
        if voxels > MOST_VOXELS:
            break
        try:
            found = _values_of(files, attribute)
        except CaseError as error:
            damaged, complaint = damaged + 1, str(error)
            continue
        assert files.mask is not None
        read, voxels = read + 1, voxels + found.size
        nan += bool(np.isnan(found.met).any())
        numbers = found.met[~np.isnan(found.met)]
        _refuse_images(files.mask, numbers)
        counts.update(int(v) for v in numbers)
        missing |= {int(v) for v in found.declared[~np.isnan(found.declared)]}
        if len(counts) > MOST_VALUES:
            raise SettingsError(_too_many(files.mask.paths[0].parent.name + "/", len(counts)))
    if not read:
        raise SettingsError(f"no mask can be read; {complaint}")
    return Survey(dict(sorted(counts.items())), missing, nan, read, damaged, len(cases))


def _values_of(files: CaseFiles, attribute: str | None) -> Values:
    assert files.mask is not None
    with scratch() as folder:
        mask = files.mask
        if mask.is_vector:
            polygons = polygon_values(fetch(mask.paths[0], folder), attribute)
            return Values(np.unique([0.0, *polygons]), np.empty(0), 0)
        return values(open_origin(mask, "mask", folder), mask.name)


def polygon_values(path: Path, attribute: str | None) -> list[int]:
    """The class value of each polygon of a file.

    Raises:
        CaseError: The file is damaged, or the field is absent or holds no whole numbers.
    """
    found: list[int] = read_features(path, attribute, lambda crs: None).values.tolist()
    return found


def _refuse_images(mask: Origin, numbers: NDArray[np.float64]) -> None:
    place = f"{mask.paths[0].parent.name}/{mask.name}"
    if (broken := numbers[numbers != np.rint(numbers)]).size and len(numbers) <= MOST_VALUES:
        raise SettingsError(
            f"{place} holds the value {broken[0]:g}: class numbers are whole; is it an image, or a "
            "map of probabilities?"
        )
    if len(numbers) > MOST_VALUES:
        raise SettingsError(_too_many(place, len(numbers)))


def _too_many(place: str, count: int) -> str:
    return (
        f"{place} holds {count} different values, a mask at most {MOST_VALUES}: it looks like an "
        "image, like a mask that JPEG or resampling has blurred, or like one that numbers objects; "
        "name the folders images and masks, save masks as PNG, TIFF or NIfTI, objects as one file "
        "each, and numbers to predict, such as heights, as float32"
    )
