"""Whether slices follow each other at one distance: none missing, none twice, none in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError

Array = NDArray[np.float64]
# Closer than any two slices of any scanner: the same place.
SAME_MM = 1e-4
LISTED = 5


class Axis(Enum):
    """What slices are ordered by, as said of some of them."""

    POSITION = "at {} mm"
    NUMBER = "of number {}"


def slack(step: float) -> float:
    """How far a slice may lie from its place: a hundredth of a step, or what rounding leaves.

    Example:
        >>> slack(5.0), slack(0.5), slack(0.005)
        (0.05, 0.01, 0.0005)
    """
    return max(step / 100, min(0.01, step / 10))


def refuse_uneven(at: Array, axis: Axis) -> None:
    """Refuse slices that are not evenly spaced.

    Args:
        at: Where they are along one axis, ascending; at least two.
        axis: What the numbers are.

    Raises:
        CaseError: Slices are missing, occur more than once, or are unevenly spaced.
    """
    gaps = np.diff(at)
    apart = gaps[gaps > SAME_MM]
    if not len(apart):
        raise _repeated_scan(f"all its {len(at)} slices lie at one position")
    step = float(np.median(apart))
    _refuse_repeated(at, gaps > slack(step), axis)
    # Where more slices are missing than there, the usual distance is that across a hole.
    for unit in (step, float(gaps.min())):
        steps = np.rint(gaps / unit)
        if np.all(np.abs(gaps - steps * unit) <= unit / 10) and steps.max() > 1:
            raise _missing(at, steps, unit, axis)
    even = np.linspace(at[0], at[-1], len(at))
    off = np.abs(at - even)
    if off.max() > slack(step):
        worst = axis.value.format(_short(at[off.argmax()]))
        raise CaseError(
            f"its slices are unevenly spaced, {gaps.min():.4g} to {gaps.max():.4g} apart: the one "
            f"{worst} lies {off.max():.2g} from its place.",
            "Export the series anew, or resample it to even slices.",
        )


def _refuse_repeated(at: Array, moves: NDArray[np.bool_], axis: Axis) -> None:
    first = np.concatenate([[True], moves])
    counts = np.bincount(np.cumsum(first) - 1)
    if counts.max() == 1:
        return
    if counts.min() == counts.max():
        raise _repeated_scan(f"each of its {len(counts)} positions occurs {counts[0]} times")
    repeated = at[first][counts > 1]
    raise CaseError(
        f"its slices {_listed(repeated, len(repeated), axis)} occur more than once.",
        "Remove the copies, so that each slice is there once.",
    )


def _repeated_scan(what: str) -> CaseError:
    return CaseError(
        f"{what}: a time series, or several echoes in one series.",
        "Split it by time or by echo into series of their own.",
    )


def _missing(at: Array, steps: Array, unit: float, axis: Axis) -> CaseError:
    count = int(steps.sum()) - len(steps)
    listed = _listed(_holes(at, steps, unit), count, axis)
    return CaseError(
        f"{count} of its {len(at) + count} slices are missing, {listed}.",
        "Copy the missing files from their source, or remove the case.",
    )


def _holes(at: Array, steps: Array, unit: float) -> Iterator[float]:
    for start, gap in zip(at, steps, strict=False):
        # A header may claim a gap of billions: only as many as are said are counted out.
        yield from (float(start + n * unit) for n in range(1, int(min(gap, LISTED + 1))))


def _listed(values: Iterable[float], count: int, axis: Axis) -> str:
    some = [_short(value) for value in islice(values, LISTED)]
    rest = [f"and {count - LISTED} more"] if count > LISTED else []
    return axis.value.format(", ".join(some)) + "".join(f" {words}" for words in rest)


def _short(value: float) -> str:
    return f"{round(float(value), 2):g}"
