"""The figures of a regression: by target and by case."""

from __future__ import annotations

from typing import Any

from pipeline.report.facts import Evidence
from pipeline.report.outcome import MOST_ROWS


def errors(evidence: Evidence) -> dict[str, Any]:
    """Figures by target and by case, and the page's headline."""
    scores, cases = evidence.scores, evidence.cases
    mean = scores["mean"]
    return {
        "mean_mae": mean.get("mae"),
        "mean_r2": mean.get("r2"),
        "pooled_r2": mean.get("r2_pooled"),
        "no_mae": _why_none(evidence),
        "target": _target(evidence),
        "targets": [{"name": name, **found} for name, found in scores["targets"].items()],
        "rules": scores["rules"],
        "cases": cases[:MOST_ROWS],
        "hidden_cases": len(cases[MOST_ROWS:]),
        "several_splits": len({c.split for c in cases}) > 1,
    }


def _target(evidence: Evidence) -> str:
    named = list(evidence.scores["targets"])
    if named or evidence.card is None or evidence.card.plan.target is None:
        return ", ".join(named) or "value"
    return evidence.card.plan.target.name


def _why_none(evidence: Evidence) -> str:
    if any(case.split == evidence.scores["split"] for case in evidence.cases):
        return "no voxel of a held-out case has both truth and prediction"
    return "no held-out case has been scored" if evidence.scored else "there are no scores yet"
