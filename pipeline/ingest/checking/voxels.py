"""What the voxels of images and masks tell, by themselves and beside the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.checking.compared import Compared
from pipeline.ingest.checking.findings import Finding, kinds, of_all

OUTLIER_STDS = 10.0
"""Standard deviations of the other cases' means, from which a mean is told."""
OUTLIER_CASES = 10
"""Fewer cases say little of how means vary."""


def constant(found: Compared) -> Iterator[Finding]:
    """Images, or channels of them, that hold one value."""
    for case in found.cases:
        still = [n for n, c in enumerate(case.channels, start=1) if c["min"] == c["max"]]
        if still and len(still) == len(case.channels):
            value = case.channels[0]["min"]
            yield Finding(
                case.case,
                "constant-image",
                "warning",
                f"its image holds the value {value:g} everywhere.",
                "Look at the image; remove the case if it is empty.",
            )
        elif still:
            numbers = ", ".join(map(str, still))
            yield Finding(
                case.case,
                "constant-channel",
                "warning",
                f"its image holds one value everywhere in channel {numbers} of "
                f"{len(case.channels)}.",
                "Look at the channel; data.bands takes the others where it is of no use.",
            )


def unmarked(found: Compared) -> Iterator[Finding]:
    """Masks that mark nothing."""
    background = found.data.background
    for case in found.cases:
        if case.class_voxels is None:
            continue
        if not sum(case.class_voxels):
            names = "names no class" if case.target is None else "holds no number"
            yield Finding(
                case.case,
                "empty-mask",
                "warning",
                f"its mask {names} anywhere: all of it is ignored or no data.",
                "Look at the mask; nothing can be learnt from the case.",
            )
        elif background is not None and sum(case.class_voxels) == case.class_voxels[background]:
            yield Finding(
                case.case,
                "only-background",
                "warning",
                "its mask holds background only.",
                "Look at the mask; if it is right, the case teaches what background is.",
            )


def duplicates(found: Compared) -> Iterator[Finding]:
    """One image under two names."""
    same: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for case in found.cases:
        image = tuple(f"{_item(s.path)} {s.sha256}" for s in case.sources if s.role == "image")
        same[image].append(case.case)
    for first, *others in same.values():
        for other in others:
            yield _duplicate(other, first, found.splits)


def _item(path: str) -> str:
    return path.partition("::")[2]


def _duplicate(case: str, first: str, splits: Mapping[str, str]) -> Finding:
    one, other = splits[case], splits[first]
    told = "its image is the same, byte for byte, as that of"
    if one == other:
        return Finding(
            case,
            "duplicate-image",
            "warning",
            f"{told} case {first}.",
            "Remove one of them, or correct the copy.",
        )
    return Finding(
        case,
        "duplicate-across-splits",
        "warning",
        f"{told} case {first}, but their splits are {one} and {other}: what is learnt from the "
        "one is scored on the other.",
        "Remove one of them, or put both into one group with data.group.",
    )


def outliers(found: Compared) -> Iterator[Finding]:
    """Images whose intensities are far from those of all others."""
    if len(found.cases) < OUTLIER_CASES:
        return
    means = np.array([[c["mean"] for c in case.channels] for case in found.cases])  # (n, C)
    for channel, values in enumerate(means.T, start=1):
        odd = outlier(values)
        if odd is not None:
            yield Finding(
                found.cases[odd.place].case,
                "intensity-outlier",
                "warning",
                f"its mean in channel {channel} is {odd.value:.4g}, that of the other cases "
                f"{odd.mean:.4g} ± {odd.std:.2g}.",
                "Look at the image: is it in another unit or scale, or damaged?",
            )


class Outlier(NamedTuple):
    """A number far from all others."""

    place: int
    """Which it is."""
    value: float
    """It."""
    mean: float
    """Of the others."""
    std: float
    """Of the others."""


def outlier(values: NDArray[np.float64]) -> Outlier | None:
    """The number farthest from the median, where it is far from all others, which differ."""
    far = int(np.argmax(np.abs(values - np.median(values))))
    others = np.delete(values, far)
    mean, std = float(others.mean()), float(others.std())
    if std > 0 and abs(values[far] - mean) > OUTLIER_STDS * std:
        return Outlier(far, float(values[far]), mean, std)
    return None


def dtype(found: Compared) -> Iterator[Finding]:
    """Images of another voxel type than most."""
    said = kinds((case, header.dtype) for case, header in found.headers)
    if said:
        yield of_all(
            "dtype-varies",
            "note",
            f"images differ in the type of their voxels: {said}.",
            "Nothing, if their intensities mean the same.",
        )
