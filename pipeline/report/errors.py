"""The figures of a regression: by target and by case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.case_table import MOST_ROWS
from pipeline.report.facts import Evidence
from pipeline.report.words import number


def errors(evidence: Evidence) -> dict[str, Any]:
    """Figures by target and by case, and the page's headline."""
    scores, cases = evidence.scores, evidence.cases
    mean = scores["mean"]
    return {
        "mean_mae": mean.get("mae"),
        "mean_r2": mean.get("r2"),
        "pooled_r2": mean.get("r2_pooled"),
        "mean_interval": _interval(mean),
        "no_mae": _why_none(evidence),
        "target": _target(evidence),
        "error_splits": _by_split(scores),
        "targets": [{"name": name, **found} for name, found in scores["targets"].items()],
        "rules": scores["rules"],
        "cases": cases[:MOST_ROWS],
        "hidden_cases": len(cases[MOST_ROWS:]),
        "several_splits": len({c.split for c in cases}) > 1,
    }


def _by_split(scores: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Figures of every split that has scored cases; none where that is one."""
    found = [
        (split, figures)
        for split, of in (scores.get("splits") or {}).items()
        for figures in (of.get("targets") or {}).values()
        if figures.get("mae") is not None
    ]
    return sorted(found) if len(found) > 1 else []


def _interval(mean: Mapping[str, Any]) -> str:
    """The 95 % interval of the mean absolute error, in words; empty where there is none."""
    ends = mean.get("mae_ci")
    return "" if not ends else f"{number(ends[0])} to {number(ends[1])}"


def _target(evidence: Evidence) -> str:
    named = list(evidence.scores["targets"])
    if named or evidence.card is None or evidence.card.plan.target is None:
        return ", ".join(named) or "value"
    return evidence.card.plan.target.name


def _why_none(evidence: Evidence) -> str:
    if evidence.held_out:
        return "no voxel of a held-out case has both truth and prediction"
    return "no held-out case has been scored" if evidence.scored else "there are no scores yet"
