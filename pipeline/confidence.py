"""How far a mean over cases can be trusted: a bootstrap over cases.

Cases are drawn with replacement, whole: the classes of one case stay together, since they
succeed and fail together. Plain percentiles of few cases are too narrow, and are taken further out
by as much as Student's t lies beyond the normal distribution (Hesterberg 2015, section 5.3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_CASES = 6
"""Fewer cases give no interval, as the paired test of as few can never reach p < 0.05."""

BLOCK_DRAWS = 4_000_000
"""Cases drawn at once; bounds the memory to about a hundred megabytes."""

Interval = tuple[float, float]
"""(low, high) of a mean, in the unit of its values."""


@dataclass(frozen=True)
class TableIntervals:
    """Intervals of the means of a table whose rows are cases."""

    columns: list[Interval | None]
    """One per column: of its mean over the cases that have a figure."""
    mean: Interval | None
    """Of the mean over columns of those means."""


def interval(
    values: Sequence[float], *, repeats: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Give the confidence interval of a mean over cases.

    Args:
        values: One figure per case; NaN counts as absent.
        repeats: Resamples drawn.
        level: Share of repeated studies whose interval holds the true mean, between 0 and 1.
        seed: Of the draws; the same values and seed give the same interval.

    Returns:
        (low, high), or None with fewer than ``MIN_CASES`` figures.

    Example:
        >>> interval([0.8, 0.9, 0.7, 0.85, 0.95]) is None
        True
    """
    figures = np.asarray(values, np.float64)
    figures = figures[~np.isnan(figures)]
    return case_bootstrap(figures[:, None], repeats=repeats, level=level, seed=seed).mean


def case_bootstrap(
    table: NDArray[np.float64], *, repeats: int = 2000, level: float = 0.95, seed: int = 0
) -> TableIntervals:
    """Give the confidence intervals of every column's mean and of the mean of these means.

    A case without any figure is left out of the draws. A resample that drew no figure of a
    column has no mean of it, and is left out of that column's interval.

    Args:
        table: (cases, columns), NaN where a case has no figure.
        repeats: Resamples drawn.
        level: Share of repeated studies whose interval holds the true mean, between 0 and 1.
        seed: Of the draws; the same table and seed give the same intervals.

    Returns:
        Intervals; None for a column with fewer than ``MIN_CASES`` figures, and for the mean
        with fewer cases than that.

    Reference:
        Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69,
        2015.
    """
    known = ~np.isnan(table)
    table, known = table[known.any(axis=1)], known[known.any(axis=1)]
    if len(table) < MIN_CASES:
        return TableIntervals([None] * table.shape[1], None)
    columns = _resampled_means(table, known, repeats, seed)  # (repeats, columns)
    counts = known.sum(axis=0).tolist()
    return TableIntervals(
        [
            _percentiles(means, n, level) if n >= MIN_CASES else None
            for means, n in zip(columns.T, counts, strict=True)
        ],
        _percentiles(np.nanmean(columns, axis=1), len(table), level),
    )


def _resampled_means(
    table: NDArray[np.float64], known: NDArray[np.bool_], repeats: int, seed: int
) -> NDArray[np.float64]:
    """Give every resample's mean of every column, (repeats, columns); NaN where it drew none."""
    figures, present = np.where(known, table, 0.0), known.astype(np.float64)
    blocks = [
        _means(counts, figures, present) for counts in _drawn_counts(len(table), repeats, seed)
    ]
    return np.concatenate(blocks)


def _means(
    counts: NDArray[np.float64], figures: NDArray[np.float64], present: NDArray[np.float64]
) -> NDArray[np.float64]:
    # einsum adds in one order on one thread; a BLAS product's last digits follow its threads
    sums = np.einsum("rc,ck->rk", counts, figures)
    drawn = np.einsum("rc,ck->rk", counts, present)
    means: NDArray[np.float64] = np.full_like(sums, np.nan)
    np.divide(sums, drawn, out=means, where=drawn > 0)
    return means


def _drawn_counts(cases: int, repeats: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Give how often every resample drew every case, (resamples, cases), block by block."""
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_DRAWS // cases)
    for start in range(0, repeats, block):
        rows = min(block, repeats - start)
        drawn = rng.integers(0, cases, (rows, cases)) + cases * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * cases)
        yield counts.reshape(rows, cases).astype(np.float64)


def _percentiles(means: NDArray[np.float64], cases: int, level: float) -> Interval:
    """The interval that resampled means, NaN left out, give of so many cases."""
    tail = expanded_tail(cases, level)
    low, high = np.quantile(means[~np.isnan(means)], [tail, 1 - tail])
    return float(low), float(high)


def expanded_tail(cases: int, level: float) -> float:
    """Share of the resampled means below an interval: less than half of 1 - ``level``.

    Example:
        >>> round(expanded_tail(6, 0.95), 4), round(expanded_tail(1000, 0.95), 4)
        (0.0024, 0.0248)
    """
    beyond = stats.t.isf((1 - level) / 2, cases - 1) * np.sqrt(cases / (cases - 1))
    return float(stats.norm.sf(beyond))
