"""The figures of a segmentation: what they are called, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.report.words import count, dice, measure

Row = Mapping[str, Any]
"""A row of scores.json: figures by their keys; those that were not asked for absent or None."""


WRITTEN = {"share": dice, "measure": measure, "count": count}


@dataclass(frozen=True)
class Figure:
    """A figure of a class."""

    key: str
    """Its name in scores.json."""
    name: str
    """Its name on the page, with its unit."""
    kind: Literal["share", "measure", "count"]
    """Whether it lies between 0 and 1, is measured in a unit, or counts things."""

    def of(self, row: Row) -> str:
        """The figure of a row, in words; a dash where it has none."""
        return WRITTEN[self.kind](row.get(self.key))


def overlap_figures() -> list[Figure]:
    """How far mask and truth cover each other."""
    names = ("Dice", "IoU", "precision", "recall", "specificity")
    return [Figure(name.lower(), name, "share") for name in names]


def surface_figures(units: Row) -> list[Figure]:
    """How far their surfaces lie apart, and how their sizes differ.

    Args:
        units: ``units`` of scores.json.
    """
    distance, volume = units.get("distance"), units.get("volume")
    size = "area" if str(volume).endswith("²") else "volume"
    tolerance = units.get("tolerance")
    within = "" if tolerance is None else f" at {tolerance:.3g} {distance or ''}".rstrip()
    return [
        Figure("nsd", f"NSD{within}", "share"),
        Figure("hd95", _in("HD95", distance), "measure"),
        Figure("msd", _in("MSD", distance), "measure"),
        Figure("volume", _in(size, volume), "measure"),
        Figure("volume_truth", _in(f"true {size}", volume), "measure"),
        Figure("volume_difference", _in("difference", volume), "measure"),
    ]


def object_figures() -> list[Figure]:
    """How well single objects were found."""
    shares = [Figure(name.lower(), name, "share") for name in ("PQ", "SQ", "RQ", "F1", "AP")]
    counts = [("n_truth", "objects"), ("n_predicted", "found")]
    return [*shares, *(Figure(key, name, "count") for key, name in counts)]


def told(figures: Iterable[Figure], rows: Sequence[Row]) -> list[Figure]:
    """Those figures that any of the rows has."""
    return [f for f in figures if any(row.get(f.key) is not None for row in rows)]


def interval(row: Row, key: str = "dice_ci") -> str:
    """A 95 % interval in words; empty where there is none."""
    ends = row.get(key)
    return "" if not ends else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _in(name: str, unit: str | None) -> str:
    return f"{name}, {unit}" if unit else name
