"""The report for a terminal: outcome, nights, scores, quarantined cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.markdown_scores import headline, score_sections
from pipeline.report.nights import Drifting, Found
from pipeline.report.pace import NOT_RECORDED
from pipeline.report.text_tables import plain, text_table
from pipeline.report.words import capital, count, counted, dice, number

MOST_NIGHTS = 5
"""Nights told besides the last."""


def markdown(page: Mapping[str, Any]) -> str:
    """The report as Markdown whose tables line up in a terminal.

    Args:
        page: Values of all sections.
    """
    parts = [
        f"# segflow run {plain(page['run_name'])}",
        page["outcome"]["sentence"],
        _error_headline(page) if page["regression"] else headline(page),
        *(f"Note: {plain(warning)}" for warning in page["warnings"]),
        *_nights(page["nights"]),
        *(_targets(page) if page["regression"] else score_sections(page)),
        *_quarantine(page),
        *_pace(page),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _error_headline(page: Mapping[str, Any]) -> str:
    if page["mean_mae"] is None:
        return f"Mean absolute error: –, {page['no_mae']}."
    return (
        f"Mean absolute error of {plain(page['target'])} **{number(page['mean_mae'])}**, R² "
        f"**{dice(page['mean_r2'])}** over {counted(page['held_out'], 'held-out case')} "
        f"(split {plain(page['split'])}); R² of all their voxels {dice(page['pooled_r2'])}."
    )


def _targets(page: Mapping[str, Any]) -> list[str]:
    if not page["targets"]:
        return []
    head = ["target", "MAE", "MSE", "RMSE", "R²", "pooled R²", "cases", "without R²"]
    rows = [
        [
            t["name"],
            *(number(t[k]) for k in ("mae", "mse", "rmse")),
            *(dice(t[k]) for k in ("r2", "r2_pooled")),
            *(count(t[k]) for k in ("n_cases", "n_constant")),
        ]
        for t in page["targets"]
    ]
    return ["## Errors", text_table(head, rows, numbers=True), plain(page["rules"])]


def _nights(nights: Mapping[str, Any] | None) -> list[str]:
    if nights is None:
        return []
    last, *before = nights["rows"][: MOST_NIGHTS + 1]
    return [
        "## Last night",
        f"{last['when']}: {plain(capital(last['sentence']))}",
        _list([*map(_found, nights["lost"]), *_drift(nights), *map(_found, nights["others"])]),
        *(["## Nights before"] if before else []),
        _list([f"{row['when']}: {plain(row['sentence'])}" for row in before]),
    ]


def _drift(nights: Mapping[str, Any]) -> list[str]:
    """A line per case that drifts."""
    of = f", of the night of {nights['drift_of']}" if nights["drift_of"] else ""
    drift, most = nights["drift"], nights["most_lines"]
    hidden = len(drift[most:])
    more = [f"Drift{of}: {counted(hidden, 'more case')}, see the page"] if hidden else []
    return [f"Drift{of}: {_signs(case)}" for case in drift[:most]] + more


def _signs(case: Drifting) -> str:
    others = len(case.signs) - 1
    more = f" (and {counted(others, 'more sign')})" if others else ""
    return plain(f"{case.name}: {case.signs[0]}") + more


def _found(found: Found) -> str:
    between = "; " if found.in_lines else ", "
    cases = between.join(plain(f"{case}: {said}" if said else case) for case, said in found.cases)
    return f"{found.label}: {cases}" + (f" and {found.hidden:,} more" if found.hidden else "")


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _pace(page: Mapping[str, Any]) -> list[str]:
    """Seams, speed and memory."""
    lines = [plain(page["seam"])] if page["seam"] else []
    for row in page["pace"]:
        lines.append(plain(f"{row.stage}: {row.work} in {row.time}, {row.speed}"))
        if row.measured != NOT_RECORDED:
            lines.append(plain(f"{row.stage}: {row.measured} of memory, {row.estimated} estimated"))
    return ["## Seams, speed and memory", _list(lines)] if lines else []


def _quarantine(page: Mapping[str, Any]) -> list[str]:
    if not page["quarantined"]:
        return []
    head = ["case", "stage", "reason", "remedy"]
    rows = [[r.case, r.stage, r.reason, r.remedy] for r in page["quarantined"]]
    return ["## Quarantined cases", text_table(head, rows, numbers=False)]
