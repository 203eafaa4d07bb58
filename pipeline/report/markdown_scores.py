"""The scores of a segmentation for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.tables import Table
from pipeline.report.text_tables import plain, text_table
from pipeline.report.words import counted, dice

MOST_CASES = 5
"""Cases told, the worst."""


def headline(page: Mapping[str, Any]) -> str:
    """Mean Dice with its interval, or why there is none."""
    mean = page["mean_dice"]
    if mean is None:
        return f"Mean Dice: –, {page['no_dice']}."
    between = f", 95 % interval {page['mean_interval']}" if page["mean_interval"] else ""
    return (
        f"Mean Dice **{mean:.4f}** over {counted(page['averaged'], 'class', 'classes')} "
        f"and {counted(page['held_out'], 'held-out case')} (split {plain(page['split'])}){between}."
    )


def score_sections(page: Mapping[str, Any]) -> list[str]:
    """Figures by class, region, split and object; how Dice lies over the cases; the worst cases."""
    if page["overlap"] is None:
        return []
    parts = ["## Dice per class", _figures(page["overlap"], "class"), plain(page["rules"])]
    named = {
        "Surfaces and sizes": page["surface"],
        "Dice by split": page["by_split"],
        "Objects": page["objects"],
    }
    for title, table in named.items():
        parts += [f"## {title}", _figures(table, "class")] if table else []
    if page["calibration"]:
        parts.append(f"Expected calibration error {page['calibration']['ece']}.")
    parts += [f"{plain(name)}: {value}." for name, value in page["membranes"]]
    return parts + _strips(page) + _worst(page)


def _figures(table: Table, of: str) -> str:
    rows: list[Sequence[str]] = [[line.name, *line.cells] for line in table.lines]
    rows += [["mean", *table.foot]] if table.foot else []
    return text_table([of, *table.head], rows, numbers=True)


def _strips(page: Mapping[str, Any]) -> list[str]:
    rows = [[s.name, s.median, s.quartiles, f"{s.count:,}"] for s in page["strips"]]
    if not rows:
        return []
    head = ["class", "median", "middle half", "cases"]
    return ["## Distribution of Dice", text_table(head, rows, numbers=True)]


def _worst(page: Mapping[str, Any]) -> list[str]:
    rows = [
        [row["case"], row["split"], dice(row["mean"])]
        for row in page["cases"]
        if row["split"] == page["split"] and row["mean"] is not None
    ]
    if not rows:
        return []
    return [
        "## Worst cases",
        text_table(["case", "split", "mean Dice"], rows[:MOST_CASES], numbers=True),
    ]
