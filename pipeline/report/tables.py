"""The figures of a segmentation by class, by region and by split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.facts import Evidence
from pipeline.report.figures import Figure, interval, overlap_figures, surface_figures, told
from pipeline.report.words import count, counted, dice

SPLITS = ("train", "val", "test")
"""Splits in the order in which they are used."""


@dataclass(frozen=True)
class Line:
    """A line of a table."""

    name: str
    """Of the class, or of the region."""
    color: tuple[int, int, int] | None
    """Of the class; None: a region has none."""
    of: Sequence[str]
    """Classes that the region is made of."""
    cells: Sequence[str]
    """Its figures, in words."""


@dataclass(frozen=True)
class Table:
    """A table as the page and the terminal show it."""

    head: Sequence[str]
    """Headings of the figures."""
    lines: Sequence[Line]
    """By class, then by region."""
    foot: Sequence[str] = ()
    """Means over the classes; as many as there are headings, or none."""
    strong: int = 0
    """The column that counts."""


def tables(evidence: Evidence) -> dict[str, Any]:
    """Figures by class, by region and by split, and the page's headline."""
    scores = evidence.scores
    mean, units = scores["mean"], scores.get("units") or {}
    groups = [*scores["classes"].values(), *(scores.get("regions") or {}).values()]
    overlap, surface = (told(f, groups) for f in (overlap_figures(), surface_figures(units)))
    return {
        "mean_dice": mean["dice"],
        "mean_interval": interval(mean),
        "no_dice": _why_no_dice(evidence),
        "averaged": sum(c["dice"] is not None for c in scores["classes"].values()),
        "overlap": _overlap(evidence, overlap, groups) if groups else None,
        "surface": _table(evidence, surface) if surface else None,
        "one_sided": _one_sided(groups) if surface else "",
        "by_split": _by_split(evidence),
        "rules": scores["rules"],
    }


def _overlap(evidence: Evidence, figures: Sequence[Figure], groups: Sequence[Any]) -> Table:
    """Dice, its interval and the other overlaps, and how many cases they are the mean of."""
    told_ci = any(interval(group) for group in groups)
    first, others = [f for f in figures if f.key == "dice"], [f for f in figures if f.key != "dice"]
    lead = ["Dice", *(["95 % interval"] if told_ci else [])]
    head = [*lead, *(f.name for f in others), "cases", "empty"]

    def cells(row: Mapping[str, Any]) -> list[str]:
        dices = [f.of(row) for f in first] or ["–"]
        counts = [count(row.get("n_cases")), count(row.get("n_empty"))]
        return [
            *dices,
            *([interval(row)] if told_ci else []),
            *(f.of(row) for f in others),
            *counts,
        ]

    mean = evidence.scores["mean"]
    foot = [dice(mean["dice"]), *([interval(mean)] if told_ci else [])]
    foot += [dice(mean["iou"]) if f.key == "iou" and "iou" in mean else "" for f in others]
    return Table(head, _lines(evidence, cells), [*foot, "", ""])


def _table(evidence: Evidence, figures: Sequence[Figure]) -> Table:
    head = [figure.name for figure in figures]
    return Table(head, _lines(evidence, lambda row: [f.of(row) for f in figures]))


def _lines(evidence: Evidence, cells: Any) -> list[Line]:
    classes, regions = evidence.scores["classes"], evidence.scores.get("regions") or {}
    return [
        *(Line(name, evidence.color(name), (), cells(row)) for name, row in classes.items()),
        *(Line(name, None, row.get("of") or (), cells(row)) for name, row in regions.items()),
    ]


def _one_sided(groups: Sequence[Mapping[str, Any]]) -> str:
    """That some cases have no distance, because there is one surface alone."""
    alone = sum(group.get("n_one_sided") or 0 for group in groups)
    return (
        ""
        if not alone
        else (
            "Distances are means over the cases in which truth and mask both have the class; "
            f"{counted(alone, 'time')} one of them alone has it, where NSD is 0."
        )
    )


def _by_split(evidence: Evidence) -> Table | None:
    """Dice of every class in every split that has any; None where that is one."""
    scored = evidence.scores.get("splits") or {}
    told_of = {
        s for s, found in scored.items() if (found.get("mean") or {}).get("dice") is not None
    }
    known = [s for s in (*SPLITS, *sorted(told_of - set(SPLITS))) if s in told_of]
    if len(known) < 2:
        return None

    def line(name: str, kind: str) -> list[str]:
        rows = [(scored[split].get(kind) or {}).get(name) or {} for split in known]
        return [dice(row.get("dice")) for row in rows]

    classes, regions = evidence.scores["classes"], evidence.scores.get("regions") or {}
    lines = [Line(name, evidence.color(name), (), line(name, "classes")) for name in classes]
    lines += [Line(name, None, (), line(name, "regions")) for name in regions]
    means = [dice((scored[split].get("mean") or {}).get("dice")) for split in known]
    held_out = evidence.scores["split"]
    return Table(known, lines, means, known.index(held_out) if held_out in known else -1)


def _why_no_dice(evidence: Evidence) -> str:
    if evidence.held_out:
        return "no scored class is in truth or mask of any held-out case"
    if evidence.scored:
        return "no held-out case has been scored"
    return "there are no scores yet"
