"""What a case's intensities are like once the plan has normalised them.

Where each case is normalised by its own mean and deviation, neither offset nor gain of a scanner
reaches the network: what is compared is the shape of the histogram, in standard deviations from
the mean. Where one scaling serves all cases, raw values matter, but none beyond its limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from pipeline.drift.quantity import Quantity, Scale
from pipeline.normalise import Scaling
from pipeline.plan_file import Plan
from pipeline.statistics import Pooled

TOLERANCE = 0.25
"""Of a standard deviation as the network sees it: training scales intensities by 0.75 to 1.25."""
SPREAD = log(1.1)
"""A tenth of how far values lie apart; as factors, which tell what is flat from what is not."""
DEVIATIONS = "standard deviations"


def intensities(statistics: Mapping[str, Any], plan: Plan) -> Iterator[tuple[str, Quantity]]:
    """Quantities of each channel, by name.

    Args:
        statistics: The case's, as its volume store carries them.
        plan: What normalises it.
    """
    scalings = plan.normalisation.scalings(dict(statistics))
    for number, (name, scaling) in enumerate(zip(plan.channels, scalings, strict=True)):
        if plan.normalisation.kind == "dataset":
            figures = _of_limits(statistics["channels"][number]["percentiles"], scaling)
        else:
            figures = _of_shape(_ends(statistics, number, scaling), scaling)
        for what, quantity in figures:
            yield what.format(f"channel {name}"), quantity


def _of_limits(
    percentiles: Mapping[str, float], scaling: Scaling
) -> Iterator[tuple[str, Quantity]]:
    """Raw values, those beyond the limits counted as the limits."""
    scale = Scale(TOLERANCE * scaling.std)
    lower = percentiles["0"] if scaling.lower is None else scaling.lower
    upper = percentiles["100"] if scaling.upper is None else scaling.upper
    mean, std = Pooled.of([(1.0, percentiles)]).clipped(lower, upper)
    first, middle, last = (min(max(percentiles[p], lower), upper) for p in ("1", "50", "99"))
    yield "1st percentile of {}", Quantity(first, scale)
    yield "median of {}", Quantity(middle, scale)
    yield "mean of {}", Quantity(mean, scale)
    yield "99th percentile of {}", Quantity(last, scale)
    yield "standard deviation of {}", Quantity(std, Scale(SPREAD, ratios=True))


def _of_shape(ends: Sequence[float], scaling: Scaling) -> Iterator[tuple[str, Quantity]]:
    """Where the ends and the middle lie, in standard deviations from the mean."""
    first, middle, last = ((value - scaling.mean) / scaling.std for value in ends)
    tail = Scale(SPREAD, DEVIATIONS, ratios=True)
    # Few voxels far out may draw the mean beyond a percentile: then it has no tail there.
    yield "mean of {} less its 1st percentile", Quantity(max(0.0, -first), tail)
    yield "median of {} less its mean", Quantity(middle, Scale(TOLERANCE, DEVIATIONS))
    yield "99th percentile of {} less its mean", Quantity(max(0.0, last), tail)


def _ends(statistics: Mapping[str, Any], number: int, scaling: Scaling) -> list[float]:
    """1st percentile, median and 99th percentile of the voxels that are normalised."""
    channel = statistics["channels"][number]
    if not scaling.keep_zeros:
        return [channel["percentiles"][name] for name in ("1", "50", "99")]
    kept = statistics["nonzero"][number]["voxels"] if statistics["nonzero"] else 0
    if kept == 0:
        return [0.0, 0.0, 0.0]
    # Percentiles are known of all voxels alone; the histogram's bins can be rid of the zeros.
    edges, counts = (np.array(channel["histogram"][name], float) for name in ("edges", "counts"))
    holds_zero = int(np.searchsorted(edges, 0.0, side="right")) - 1
    if kept < statistics["valid_voxels"]:
        counts[min(holds_zero, len(counts) - 1)] -= statistics["valid_voxels"] - kept
    until = np.append(0.0, np.cumsum(counts))
    found: list[float] = np.interp(np.array([0.01, 0.5, 0.99]) * kept, until, edges).tolist()
    return found
