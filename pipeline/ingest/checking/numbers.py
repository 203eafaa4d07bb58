"""Whether the numbers of a regression's masks can be trusted, by themselves and side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.ingest.checking.compared import Compared
from pipeline.ingest.checking.findings import Finding, of_all
from pipeline.ingest.checking.voxels import OUTLIER_CASES, outlier

MARKS = (-9999.0, -99999.0, -999.0, -32768.0, -32767.0, 32767.0, 65535.0, 1e20, -1e20)
"""Numbers that are written where nothing was measured, more often than they are measured."""
HUGE = 1e30
"""The largest floats, of either sign, are such marks too."""


def infinite(found: Compared) -> Iterator[Finding]:
    """Masks that hold infinity."""
    for case in found.labelled:
        if case.target is not None and case.target["infinite"]:
            yield Finding(
                case.case,
                "infinite-truth",
                "warning",
                f"its mask is infinite in {case.target['infinite']:,} voxels, which are taken for "
                "not measured.",
                "Nothing, if infinity means that; else correct the mask.",
            )


def constant(found: Compared) -> Iterator[Finding]:
    """Masks that hold one number."""
    for case in found.labelled:
        if case.target is None or not case.target["count"]:
            continue
        if case.target["min"] == case.target["max"]:
            yield Finding(
                case.case,
                "constant-truth",
                "warning",
                f"its mask holds the number {case.target['min']:g} everywhere.",
                "Look at the mask; of such a case there is no R².",
            )


def marks(found: Compared) -> Iterator[Finding]:
    """Numbers that likely mean "not measured" and are taken at their word."""
    ends: dict[float, list[str]] = {}
    for case in found.labelled:
        for end in ("min", "max"):
            value = None if case.target is None else case.target[end]
            if value is not None and (abs(value) > HUGE or value in MARKS):
                ends.setdefault(value, []).append(case.case)
    for value, cases in sorted(ends.items()):
        # The largest of a case may be its smallest as well.
        count = len(set(cases))
        yield of_all(
            "likely-nodata",
            "warning",
            f"{value:.9g} is the least or the largest number in the masks of {count} of "
            f"{len(found.labelled)} cases, {cases[0]} among them, and would be learnt as such.",
            f"If it means that nothing was measured, set data.ignore_values to [{int(value)}].",
        )


def outliers(found: Compared) -> Iterator[Finding]:
    """Masks whose numbers are far from those of all others."""
    told = [c for c in found.labelled if c.target is not None and c.target["count"]]
    if len(told) < OUTLIER_CASES:
        return
    odd = outlier(np.array([c.target["mean"] for c in told if c.target is not None]))
    if odd is not None:
        yield Finding(
            told[odd.place].case,
            "truth-outlier",
            "warning",
            f"the mean of its mask is {odd.value:.4g}, that of the other cases {odd.mean:.4g} ± "
            f"{odd.std:.2g}.",
            "Look at the mask: is it in another unit, or measured from another level?",
        )
