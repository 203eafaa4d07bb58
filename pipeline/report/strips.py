"""How a figure lies over the cases, class by class: every case a dot, half of them in a box.

The pictures have no size of their own: places are shares of their width, so that dots stay round
and the words beside them are the page's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.charts import ticks
from pipeline.report.facts import CaseScore, Evidence
from pipeline.report.words import dice

MOST_DOTS = 200
"""Cases drawn for a class; of more, an even choice from the lowest to the highest."""
HEIGHT, MIDDLE, BOX = 30, 15, 8
"""Of a strip; of its middle; half of its box; pixels."""
GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Strip:
    """A class's figures over the cases."""

    name: str
    """The class."""
    color: tuple[int, int, int] | None
    """Its colour; None: a region has none."""
    svg: str
    """Every case a dot."""
    median: str
    """In words."""
    quartiles: str
    """In words."""
    count: int
    """Cases."""


def strips(evidence: Evidence) -> dict[str, Any]:
    """Dice of the held-out cases by class, on one axis."""
    found = _found(evidence)
    known = [values for _, _, values in found if values]
    if sum(map(len, known)) < 2:
        return {"strips": [], "strip_axis": ""}
    marks = ticks(min(map(min, known)), 1.0)
    limits = marks[0], 1.0
    return {
        "strips": [_strip(*row, limits, marks) for row in found if row[2]],
        "strip_axis": _axis(marks, limits),
    }


def _found(
    evidence: Evidence,
) -> list[tuple[str, tuple[int, int, int] | None, list[float]]]:
    """Name, colour and figures of every class and region."""
    cases = [c for c in evidence.held_out if isinstance(c, CaseScore)]
    regions = [evidence.regions.get((c.case, c.split), {}) for c in cases]
    return [
        *(
            (name, evidence.color(name), _known([c.classes.get(name) for c in cases]))
            for name in evidence.scores["classes"]
        ),
        *(
            (name, None, _known([of.get(name) for of in regions]))
            for name in evidence.scores.get("regions") or {}
        ),
    ]


def _known(values: Sequence[float | None]) -> list[float]:
    return sorted(value for value in values if value is not None)


def _strip(
    name: str,
    color: tuple[int, int, int] | None,
    values: Sequence[float],
    limits: tuple[float, float],
    marks: Sequence[float],
) -> Strip:
    low, median, high = (float(v) for v in np.percentile(values, [25, 50, 75]))
    left, middle, right = (_share(v, limits) for v in (low, median, high))
    rules = [
        f'<line class="rule" x1="{x}%" x2="{x}%" y1="0" y2="{HEIGHT}"/>'
        for x in (_share(mark, limits) for mark in marks)
    ]
    box = (
        f'<rect x="{left}%" y="{MIDDLE - BOX}" width="{round(right - left, 2)}%" '
        f'height="{2 * BOX}" rx="1.5"/>'
    )
    line = (
        f'<line class="median" x1="{middle}%" x2="{middle}%" y1="{MIDDLE - BOX - 2}" '
        f'y2="{MIDDLE + BOX + 2}"/>'
    )
    style = f"--series:{'var(--soft)' if color is None else f'rgb{color}'}"
    said = f"median {dice(median)}, half of the cases from {dice(low)} to {dice(high)}"
    svg = (
        f'<svg class="strip series" width="100%" height="{HEIGHT}" role="img" aria-label="{said}" '
        f'style="{style}">{"".join([*rules, _dots(values, limits), box, line])}</svg>'
    )
    return Strip(name, color, svg, dice(median), f"{dice(low)} to {dice(high)}", len(values))


def _dots(values: Sequence[float], limits: tuple[float, float]) -> str:
    """A dot for each case; the golden ratio moves neighbours apart, the same way every time."""
    step = -(-len(values) // MOST_DOTS)
    chosen = sorted({*range(0, len(values), step), len(values) - 1})
    places = (
        (_share(values[i], limits), round(MIDDLE + (2 * (i * GOLDEN % 1) - 1) * BOX, 1))
        for i in chosen
    )
    return "".join(f'<circle cx="{x}%" cy="{y}" r="2.4"/>' for x, y in places)


def _axis(marks: Sequence[float], limits: tuple[float, float]) -> str:
    """Words under the strips."""
    texts = (
        f'<text x="{_share(mark, limits)}%" y="12" text-anchor="middle">{mark:g}</text>'
        for mark in marks
    )
    head = '<svg class="strip axis" width="100%" height="16" aria-hidden="true">'
    return f"{head}{''.join(texts)}</svg>"


def _share(value: float, limits: tuple[float, float]) -> float:
    """A value's place between the limits, in percent."""
    return round(100 * (value - limits[0]) / ((limits[1] - limits[0]) or 1.0), 2)
