"""The report for a terminal: outcome, nights, scores, quarantined cases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.nights import Drifting, Found
from pipeline.report.words import capital, count, counted, dice, number

MOST_NIGHTS = 5
"""Nights told besides the last."""


def markdown(page: Mapping[str, Any]) -> str:
    """The report as Markdown whose tables line up in a terminal.

    Args:
        page: Values of all sections.
    """
    parts = [
        f"# segflow run {_plain(page['run_name'])}",
        page["outcome"]["sentence"],
        _error_headline(page) if page["regression"] else _headline(page),
        *(f"Note: {_plain(warning)}" for warning in page["warnings"]),
        *_nights(page["nights"]),
        *(_targets(page) if page["regression"] else _classes(page)),
        *_quarantine(page),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(page: Mapping[str, Any]) -> str:
    mean = page["mean_dice"]
    if mean is None:
        return f"Mean Dice: –, {page['no_dice']}."
    return (
        f"Mean Dice **{mean:.4f}** over {counted(page['averaged'], 'class', 'classes')} "
        f"and {counted(page['held_out'], 'held-out case')} (split {_plain(page['split'])})."
    )


def _classes(page: Mapping[str, Any]) -> list[str]:
    if not page["classes"]:
        return []
    head = ["class", "Dice", "IoU", "precision", "recall", "cases", "empty"]
    keys = ("dice", "iou", "precision", "recall")
    rows = [
        [c["name"], *(dice(c[k]) for k in keys), count(c["n_cases"]), count(c["n_empty"])]
        for c in page["classes"]
    ]
    return ["## Dice per class", _table(head, rows, numbers=True), _plain(page["rules"])]


def _error_headline(page: Mapping[str, Any]) -> str:
    if page["mean_mae"] is None:
        return f"Mean absolute error: –, {page['no_mae']}."
    return (
        f"Mean absolute error of {_plain(page['target'])} **{number(page['mean_mae'])}**, R² "
        f"**{dice(page['mean_r2'])}** over {counted(page['held_out'], 'held-out case')} "
        f"(split {_plain(page['split'])}); R² of all their voxels {dice(page['pooled_r2'])}."
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
    return ["## Errors", _table(head, rows, numbers=True), _plain(page["rules"])]


def _nights(nights: Mapping[str, Any] | None) -> list[str]:
    if nights is None:
        return []
    last, *before = nights["rows"][: MOST_NIGHTS + 1]
    return [
        "## Last night",
        f"{last['when']}: {_plain(capital(last['sentence']))}",
        _list([*map(_found, nights["lost"]), *_drift(nights), *map(_found, nights["others"])]),
        *(["## Nights before"] if before else []),
        _list([f"{row['when']}: {_plain(row['sentence'])}" for row in before]),
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
    return _plain(f"{case.name}: {case.signs[0]}") + more


def _found(found: Found) -> str:
    between = "; " if found.in_lines else ", "
    cases = between.join(_plain(f"{case}: {said}" if said else case) for case, said in found.cases)
    return f"{found.label}: {cases}" + (f" and {found.hidden:,} more" if found.hidden else "")


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _quarantine(page: Mapping[str, Any]) -> list[str]:
    if not page["quarantined"]:
        return []
    head = ["case", "stage", "reason", "remedy"]
    rows = [[r.case, r.stage, r.reason, r.remedy] for r in page["quarantined"]]
    return ["## Quarantined cases", _table(head, rows, numbers=False)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool) -> str:
    """A table whose columns line up; with ``numbers``, all but the first to the right."""
    lines = [list(head), *([_plain(cell) for cell in row] for row in rows)]
    columns = [
        _column(cells, right=numbers and i > 0) for i, cells in enumerate(zip(*lines, strict=True))
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _column(cells: Sequence[str], *, right: bool) -> list[str]:
    """Cells of one width, a rule under the first."""
    width = max(map(len, cells))
    head, *body = [cell.rjust(width) if right else cell.ljust(width) for cell in cells]
    rule = "-" * (width - 1) + (":" if right else "-")
    return [head, rule, *body]


def _plain(text: str) -> str:
    """Text that neither Markdown, HTML nor a terminal takes for a command."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\|<`])", r"\\\1", shown)
