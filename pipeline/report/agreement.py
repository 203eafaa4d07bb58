"""Which class was taken for which: the confusion matrix of the held-out cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from pipeline.report.facts import Evidence
from pipeline.report.words import count

MOST_NAMED = 10
"""Classes whose names stand over the columns, and their counts in the cells; more are numbered."""
FULLEST = 45
"""Percent of colour in a cell that has all of its row: words stay easy to read on it."""


@dataclass(frozen=True)
class Cell:
    """A pair of classes."""

    share: str
    """Part of the row's voxels, in words; empty below half of the last digit."""
    count: str
    """Voxels, in words; empty where there are none."""
    tint: float
    """Percent of colour behind them."""
    right: bool
    """Whether both classes are the same."""


@dataclass(frozen=True)
class MatrixRow:
    """A class of the truth."""

    name: str
    """The class."""
    total: str
    """Its voxels, in words."""
    cells: Sequence[Cell]
    """By class of the mask."""


def agreement(evidence: Evidence) -> dict[str, Any]:
    """The matrix, each row as shares of the truth's voxels; nothing where it was not written."""
    told = evidence.scores.get("confusion") or {}
    names, counts = told.get("classes") or [], told.get("counts") or []
    if len(names) < 2 or len(counts) != len(names):
        return {"confusion": None}
    small = len(names) > MOST_NAMED
    rows = [_row(i, name, counts[i], small) for i, name in enumerate(names)]
    return {"confusion": {"names": names, "rows": rows, "small": small}}


def _row(number: int, name: str, counts: Sequence[int], small: bool) -> MatrixRow:
    total = sum(counts)
    cells = [_cell(n, total, small, right=i == number) for i, n in enumerate(counts)]
    return MatrixRow(name, count(total), cells)


def _cell(voxels: int, total: int, small: bool, *, right: bool) -> Cell:
    share = voxels / total if total else 0.0
    # A mistake in a hundred must be seen: colour grows with the root.
    told = count(voxels) if voxels else ""
    return Cell(_words(share, voxels, small), told, round(FULLEST * sqrt(share), 1), right)


def _words(share: float, voxels: int, small: bool) -> str:
    """A share in percent, never rounded to nothing or to all."""
    if not voxels:
        return "" if small else "0"
    if small:
        percent = 100 if share == 1 else min(99, round(100 * share))
        return str(percent) if percent else ""
    if share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"
