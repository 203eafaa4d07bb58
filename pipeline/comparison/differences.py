"""Paired differences → their mean, how sure it is, and how many cases gained.

Wilcoxon's signed-rank test asks whether cases gain as much as they lose. Cases whose figure is the
same in both are left out of its ranks (Wilcoxon 1945), and counted. The p-values of several
classes are corrected after Holm (1979), because one class in twenty seems better by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.comparison.figures import Figure
from pipeline.confidence import MIN_CASES, Interval, case_bootstrap, interval

DIGITS = 12
"""Decimals of a difference: what lies below is rounding, and would rank equal cases."""


@dataclass(frozen=True)
class Difference:
    """How two runs differ in one class, or over all of them."""

    name: str
    """Class, region, target, or what the mean is over."""
    cases: int
    """Cases that have the figure in both runs, N."""
    alone: int
    """Cases that have it in one run alone, and cannot be paired."""
    a: float | None
    """Mean of A over the N cases; None of no case."""
    b: float | None
    """Mean of B over the N cases."""
    difference: float | None
    """B less A."""
    interval: Interval | None
    """95 % bootstrap interval of the difference; None of too few cases."""
    better: int
    """Cases in which B is better."""
    worse: int
    """Cases in which B is worse."""
    p: float | None
    """Two-sided p of the signed-rank test; None of too few cases."""
    effect: float | None
    """Matched-pairs rank-biserial correlation (Kerby 2014): the share of the ranks that gain less
    the share that lose; 1: every case gains."""
    p_holm: float | None = None
    """p after Holm's correction for the number of classes; None where there is one test."""

    @property
    def told_p(self) -> float | None:
        """The p to judge by."""
        return self.p if self.p_holm is None else self.p_holm


def differ(name: str, a: NDArray[np.float64], b: NDArray[np.float64], figure: Figure) -> Difference:
    """How one class differs.

    Args:
        name: The class.
        a: Figures of A by case, (N,), NaN where it has none.
        b: Of B, of the same cases.
        figure: What they are.
    """
    both = ~(np.isnan(a) | np.isnan(b))
    found = _tested(name, np.round(b[both] - a[both], DIGITS), figure)
    if not both.any():
        return replace(found, alone=_alone(a, b))
    return replace(
        found,
        alone=_alone(a, b),
        a=float(a[both].mean()),
        b=float(b[both].mean()),
        difference=float((b[both] - a[both]).mean()),
        interval=interval((b - a)[both].tolist()),
    )


def differ_over_all(
    name: str, a: NDArray[np.float64], b: NDArray[np.float64], figure: Figure
) -> Difference:
    """How the mean over classes of their means over cases differs.

    The test and the counts are of the cases' own means over their classes.

    Args:
        name: What the mean is over.
        a: Figures of A, (cases, classes), NaN where it has none.
        b: Of B, likewise.
        figure: What they are.
    """
    gaps = b - a  # NaN where either has none
    known = ~np.isnan(gaps)
    rows, columns = known.any(axis=1), known.any(axis=0)
    alone = int((~rows & ~(np.isnan(a) & np.isnan(b)).all(axis=1)).sum())
    of_cases = np.array([row[~np.isnan(row)].mean() for row in gaps[rows]])
    found = replace(_tested(name, np.round(of_cases, DIGITS), figure), alone=alone)
    if not rows.any():
        return found
    means = [
        float(np.nanmean(np.nanmean(np.where(known, t, np.nan)[:, columns], axis=0)))
        for t in (a, b, gaps)
    ]
    return replace(
        found, a=means[0], b=means[1], difference=means[2], interval=case_bootstrap(gaps).mean
    )


def _alone(a: NDArray[np.float64], b: NDArray[np.float64]) -> int:
    return int((np.isnan(a) != np.isnan(b)).sum())


def _tested(name: str, gaps: NDArray[np.float64], figure: Figure) -> Difference:
    """Counts and test of differences, (N,)."""
    gains = gaps if figure.higher else -gaps
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    p, effect = _signed_ranks(gains) if len(gains) >= MIN_CASES else (None, None)
    return Difference(name, len(gains), 0, None, None, None, None, better, worse, p, effect)


def _signed_ranks(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Two-sided p, exact up to fifty cases where none tie; and the rank-biserial correlation."""
    moved = gains[gains != 0]
    if not len(moved):
        return 1.0, 0.0
    ranks = stats.rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    return float(stats.wilcoxon(moved).pvalue), effect


def corrected(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """The same, each p corrected after Holm for the number of tests; one test needs none."""
    tested = sorted((d for d in found if d.p is not None), key=lambda d: d.p or 0.0)
    if len(tested) < 2:
        return tuple(found)
    least, told = 0.0, {}
    for rank, row in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * (row.p or 0.0)))
        told[row.name] = least
    return tuple(replace(row, p_holm=told.get(row.name)) for row in found)
