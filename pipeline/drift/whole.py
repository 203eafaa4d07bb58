"""The new cases as a whole against the training cases.

The test is that of Kolmogorov and Smirnov for two samples. It asks how much more of the one than of
the other lies beyond some value, for the value where this is most. Its chances are exact for any
number of cases and any distribution, which those of a count beyond the 5th and 95th percentile are
not: the percentiles of twenty training cases are themselves guesses. They are corrected for the
number of quantities (Bonferroni), so that they hold for the night and not for each figure.

Chance is one thing, size another: of many cases the test finds differences that make none to a
network. So the medians must differ by more than that as well.

The test takes cases to be drawn one by one. Those of one patient, scanner or flight are not: a
night of nothing else is flagged, and rightly so, for it is not like the training cases.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from math import floor, log10

import numpy as np
from scipy.stats import ks_2samp

from pipeline.drift.flag import Flag
from pipeline.drift.reference import Known, Reference
from pipeline.drift.settings import DriftSettings


def flagged_whole(
    settings: DriftSettings, reference: Reference, cases: Mapping[str, Mapping[str, float]]
) -> list[Flag]:
    """Every quantity in which the new cases differ, and not by chance, the least likely first."""
    found: list[tuple[float, Flag]] = []
    compared = {
        name: (known, figures)
        for name, known in reference.quantities.items()
        if len(figures := [of[name] for of in cases.values() if name in of]) >= settings.fewest
        and not known.too_few
    }
    for name, (known, figures) in compared.items():
        with warnings.catch_warnings():
            # Its exact chance of 1 may come out a digit above; it then gives an approximate 1.
            warnings.simplefilter("ignore", RuntimeWarning)
            test = ks_2samp(known.values, figures)
        chance = float(test.pvalue) * len(compared)
        if chance <= settings.significance and _apart(known, figures):
            cut, higher = float(test.statistic_location), test.statistic_sign > 0
            found.append((chance, _flag(name, known, figures, cut, higher, chance)))
    return [flag for _, flag in sorted(found, key=lambda pair: pair[0])]


def _apart(known: Known, figures: Sequence[float]) -> bool:
    """Whether the medians differ by more than makes no difference to a network."""
    ours, theirs = (known.scale.place(float(np.median(v))) for v in (known.values, figures))
    return ours != theirs and abs(ours - theirs) > known.scale.slack


def _flag(
    name: str, known: Known, figures: Sequence[float], cut: float, higher: bool, chance: float
) -> Flag:
    scale = known.scale
    median = float(np.median(figures))
    low, high = (float(v) for v in np.percentile(known.values, (25, 75)))
    new, training = (sum((v > cut) == higher for v in values) for values in (figures, known.values))
    nights = 10 ** min(6, floor(-log10(max(chance, 1e-9))))
    sentence = (
        f"the new cases as a whole: in {new} of {len(figures)} the {name} is "
        f"{'above' if higher else 'at most'} {scale.written(cut)}, in {training} of "
        f"{len(known.values)} training cases; by chance this is so in fewer than one of "
        f"{nights:,} nights."
    )
    return Flag(None, name, median, (low, high), sentence)
