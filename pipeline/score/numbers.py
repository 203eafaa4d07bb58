"""Scores of a regression: sums of errors → MAE, MSE, RMSE and R²."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.confidence import interval
from pipeline.metrics import ErrorSums, mean
from pipeline.score.found import CaseFound

RULES = (
    "Voxels are counted where the truth holds a number and the image has data. Of each case, over "
    "its voxels: MAE is the mean of |value - truth|, MSE of (value - truth)², RMSE its root, and "
    "R² = 1 - Σ (value - truth)² / Σ (truth - its mean)². A case whose truth is constant has no "
    "R²: counted, not averaged. The figures are means over the cases of the held-out split; the "
    "pooled R² is of all their voxels together."
)
FIGURES = ("mae", "mse", "rmse", "r2")
MEANS = (*FIGURES, "r2_pooled", "mae_ci")
"""What a run has of its held-out cases together."""


def case_row(found: CaseFound, target: str) -> dict[str, Any]:
    """The row of a case."""
    sums = found.errors
    figures = {name: getattr(sums, name) for name in FIGURES}
    place = {"case": found.case, "split": found.split, "target": target}
    return {**place, **figures, "count": sums.count}


def summarise_numbers(found: Sequence[CaseFound]) -> dict[str, Any]:
    """Means over cases.

    Args:
        found: What was measured of each.

    Returns:
        The figures; ``n_cases`` have voxels to score, of which ``n_constant`` have no R²;
        ``n_empty`` have none.
    """
    told = [case.errors for case in found if case.errors.count]
    columns = {name: [getattr(sums, name) for sums in told] for name in FIGURES}
    return {
        **{name: mean([v for v in column if v is not None]) for name, column in columns.items()},
        "r2_pooled": sum(told, ErrorSums()).r2,
        "mae_ci": interval(columns["mae"]),
        "n_cases": len(told),
        "n_constant": sum(r2 is None for r2 in columns["r2"]),
        "n_empty": len(found) - len(told),
    }
