"""The figures of every case: one table, and what it can show instead of Dice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.report.facts import CaseScore, Evidence
from pipeline.report.figures import (
    Figure,
    Row,
    object_figures,
    overlap_figures,
    surface_figures,
    told,
)
from pipeline.report.words import dice

MOST_ROWS = 1000
MOST_COLUMNS = 10
"""Classes that a table can show side by side; of more, the lowest Dice stands for all."""
MOST_NUMBERS = 200_000
"""Figures that the page holds beside Dice: a few bytes each."""

Found = dict[tuple[str, str, str], Row]
"""Rows of scores.json by case, split and class or region."""


def case_table(evidence: Evidence) -> dict[str, Any]:
    """The table as it stands, and the figures it can be turned to."""
    cases = [c for c in evidence.cases if isinstance(c, CaseScore)]
    shown = cases[:MOST_ROWS]
    names = list(evidence.scores["classes"])
    regions = list(evidence.scores.get("regions") or {})
    blocks = _blocks(evidence, shown)
    size = len(shown) * sum(len(b["things"]) * len(b["figures"]) for b in blocks)
    many = len(names) + len(regions) > MOST_COLUMNS
    return {
        "cases": [_line(case, names, evidence, many) for case in shown],
        "hidden_cases": len(cases) - len(shown),
        "several_splits": len({c.split for c in cases}) > 1,
        "case_columns": ["lowest Dice", "of"] if many else [*names, *regions],
        "lowest_told": many,
        "case_figures": blocks if size <= MOST_NUMBERS else [],
        "case_choices": _choices(blocks, many) if size <= MOST_NUMBERS else [],
    }


def _line(case: CaseScore, names: Sequence[str], evidence: Evidence, many: bool) -> dict[str, Any]:
    """A case's row: name, split, mean Dice, and the cells after it as (value to sort by, text)."""
    regions = evidence.regions.get((case.case, case.split), {})
    of = [(name, case.classes.get(name)) for name in names]
    of += [(name, regions.get(name)) for name in evidence.scores.get("regions") or {}]
    if many:
        known = [(value, name) for name, value in of if value is not None]
        value, name = min(known, default=(None, "–"))
        cells: list[tuple[Any, str]] = [(value, dice(value)), (name, name)]
    else:
        cells = [(value, dice(value)) for _, value in of]
    return {"case": case.case, "split": case.split, "mean": case.mean, "cells": cells}


def _blocks(evidence: Evidence, cases: Sequence[CaseScore]) -> list[dict[str, Any]]:
    """All figures of classes and regions, and those of objects, by case."""
    scores = evidence.scores
    units = scores.get("units") or {}
    names = [*scores["classes"], *(scores.get("regions") or {})]
    rows = [*scores["cases"], *(scores.get("region_cases") or [])]
    objects = scores.get("object_cases") or []
    return [
        _block(names, [*overlap_figures(), *surface_figures(units)], rows, cases),
        _block(list(scores.get("objects") or {}), object_figures(), objects, cases),
    ]


def _block(
    names: Sequence[str], figures: Sequence[Figure], rows: Sequence[Row], cases: Sequence[CaseScore]
) -> dict[str, Any]:
    """Figures as plain lists: by case, by class, in the order of ``figures``."""
    found: Found = {(r["case"], r["split"], r.get("class", r.get("region", ""))): r for r in rows}
    figures = told(figures, rows)
    values = [
        [_values(found.get((c.case, c.split, name), {}), figures) for name in names] for c in cases
    ]
    return {
        "things": list(names),
        "figures": [{"name": f.name, "kind": f.kind} for f in figures],
        "values": values,
    }


def _values(row: Row, figures: Sequence[Figure]) -> list[float | None]:
    values = (row.get(figure.key) for figure in figures)
    return [None if value is None else float(f"{value:.5g}") for value in values]


def _choices(blocks: Sequence[dict[str, Any]], many: bool) -> list[dict[str, Any]]:
    """What the table can show, in groups; none where that is Dice alone.

    A value names a block, ``f`` or ``t``, and which figure of it for every class, or which class
    with every figure.
    """
    first = "Lowest Dice" if many else "Dice"
    groups: list[dict[str, Any]] = [{"name": "One figure, every class", "options": [("", first)]}]
    for number, block in enumerate(blocks):
        objects = " of objects" if number else ""
        figures = [(f"{number}f{i}", f["name"] + objects) for i, f in enumerate(block["figures"])]
        things = [(f"{number}t{i}", name) for i, name in enumerate(block["things"])]
        if not figures or not things:
            continue
        if len(things) > 1:
            groups[0]["options"] += figures if many or number else figures[1:]
        if len(figures) > 1:
            kind = "Objects of one class" if number else "One class, every figure"
            groups.append({"name": kind, "options": things})
    return groups if sum(len(g["options"]) for g in groups) > 1 else []
