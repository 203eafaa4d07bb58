"""Scores of a regression: sums of errors → MAE, MSE, RMSE and R²."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.metrics import ErrorSums, mean

RULES = (
    "Voxels are counted where the truth holds a number and the image has data. Of each case, over "
    "its voxels: MAE is the mean of |value - truth|, MSE of (value - truth)², RMSE its root, and "
    "R² = 1 - Σ (value - truth)² / Σ (truth - its mean)². A case whose truth is constant has no "
    "R²: counted, not averaged. The figures are means over the cases of the held-out split; the "
    "pooled R² is of all their voxels together."
)
FIGURES = ("mae", "mse", "rmse", "r2")


def case_row(case: str, split: str, target: str, sums: ErrorSums) -> dict[str, Any]:
    """The row of a case."""
    figures = {name: getattr(sums, name) for name in FIGURES}
    return {"case": case, "split": split, "target": target, **figures, "count": sums.count}


def summarise_numbers(
    sums: Mapping[tuple[str, str], ErrorSums], target: str, held_out: str
) -> dict[str, Any]:
    """Means over the held-out cases.

    Args:
        sums: By case and its split, all splits.
        target: What the numbers are.
        held_out: The split that is averaged.

    Returns:
        ``mean``, ``targets`` and ``cases`` as scores.json holds them. A target's ``n_cases`` have
        voxels to score, of which ``n_constant`` have no R²; ``n_empty`` have none.
    """
    rows = [case_row(case, split, target, s) for (case, split), s in sums.items()]
    here = [row for row in rows if row["split"] == held_out]
    means = {name: _mean(here, name) for name in FIGURES}
    pooled = sum((s for (_, split), s in sums.items() if split == held_out), ErrorSums())
    means["r2_pooled"] = pooled.r2
    told = [row for row in here if row["count"]]
    counts = {
        "n_cases": len(told),
        "n_constant": sum(row["r2"] is None for row in told),
        "n_empty": len(here) - len(told),
    }
    return {"mean": means, "targets": {target: {**means, **counts}}, "cases": rows}


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return mean([row[name] for row in rows if row[name] is not None])
