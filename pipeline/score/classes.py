"""Scores of a segmentation: exact counts by class → Dice and the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.confidence import case_bootstrap
from pipeline.metrics import mean, region_counts
from pipeline.score.found import CaseFound
from pipeline.score.tasks import group_name

RULES = (
    "Voxels are counted where the truth names a class and the image has data; the background is "
    "not scored. Dice = 2 tp / (2 tp + fp + fn) per case and class. A class absent from both truth "
    "and mask of a case is empty there: counted, not averaged. A class's figure is the mean over "
    "the cases of the held-out split; the headline is the mean over classes. A region is the union "
    "of its classes and does not count in the headline. Volume difference is mask less truth. "
    "Surface distances run between the centres of voxels at the border of a class and the nearest "
    "of the other's: HD95 is the larger of both directions' 95th percentiles, MSD the mean of all, "
    "the surface Dice (NSD) the share within the tolerance, by default a voxel's largest side; a "
    "class that only one of truth and mask has has a surface Dice of 0 and no distances. "
    "Intervals are those of the mean in 95 % of samples drawn anew from the cases (bootstrap), "
    "taken further out the fewer cases there are, as Student's t is; from 6 cases on."
)
SHARES = ("dice", "iou", "precision", "recall", "specificity")
VOLUMES = ("volume", "volume_truth", "volume_difference")
DISTANCES = ("hd95", "msd", "nsd")
MEASURED = (*VOLUMES, "hd95", "msd")
"""Figures that have a unit."""
FIGURES = (*SHARES, *VOLUMES, *DISTANCES)
"""What a class or a region has of a case."""


def case_rows(
    found: CaseFound, kind: str, groups: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    """A row per class, or per region, of a case.

    Args:
        found: The case.
        kind: ``class`` or ``region``.
        groups: Labels of each, by name.
    """
    place = {"case": found.case, "split": found.split}
    return [
        {**place, kind: name, **_figures(found, group_name(kind, name), labels)}
        for name, labels in groups.items()
    ]


def _figures(found: CaseFound, group: str, labels: Sequence[int]) -> dict[str, Any]:
    counts = region_counts(found.matrix, labels)
    made, true = found.volume(counts.tp + counts.fp), found.volume(counts.tp + counts.fn)
    surface = found.surface(group)
    return {
        **{name: getattr(counts, name) for name in SHARES},
        **asdict(counts),
        **dict(zip(VOLUMES, (made, true, made - true), strict=True)),
        **{name: surface.get(name) for name in DISTANCES},
    }


def summarise(
    rows: Sequence[dict[str, Any]], names: Sequence[str], kind: str, comparable: bool = True
) -> dict[str, Any]:
    """Means over cases, by class or region, and over those.

    Args:
        rows: A row per case and class, or region.
        names: Of the classes, or regions.
        kind: ``class`` or ``region``.
        comparable: Whether all cases are measured in one unit; else lengths and sizes have no mean.

    Returns:
        ``mean`` and ``groups``: of each name its figures, the cases averaged and not, and an
        interval of its Dice.
    """
    by_name = {name: [row for row in rows if row[kind] == name] for name in names}
    groups = {name: _means(here, comparable) for name, here in by_name.items()}
    dice = _table(by_name)
    intervals = case_bootstrap(dice)
    for column, group in enumerate(groups.values()):
        group["dice_ci"] = intervals.columns[column]
    means: dict[str, Any] = {
        figure: mean([g[figure] for g in groups.values() if g[figure] is not None])
        for figure in ("dice", "iou")
    }
    return {"mean": {**means, "dice_ci": intervals.mean}, "groups": groups}


def _means(rows: Sequence[Mapping[str, Any]], comparable: bool) -> dict[str, Any]:
    told = [row for row in rows if row["dice"] is not None]
    means = {
        name: mean([row[name] for row in told if row.get(name) is not None]) for name in FIGURES
    }
    if not comparable:
        means |= dict.fromkeys(MEASURED)
    one_sided = sum(row.get("nsd") is not None and row.get("hd95") is None for row in told)
    return {
        **means,
        "n_cases": len(told),
        "n_empty": len(rows) - len(told),
        "n_one_sided": one_sided,
    }


def _table(by_name: Mapping[str, Sequence[Mapping[str, Any]]]) -> np.ndarray:
    """Dice by case and class, (cases, classes), NaN where a class is empty."""
    cases = list(dict.fromkeys(row["case"] for rows in by_name.values() for row in rows))
    place = {case: number for number, case in enumerate(cases)}
    table = np.full((len(cases), len(by_name)), np.nan)
    for column, rows in enumerate(by_name.values()):
        for row in rows:
            if row["dice"] is not None:
                table[place[row["case"]], column] = row["dice"]
    return table
