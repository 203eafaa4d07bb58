"""What was measured of all cases → the content of scores.json, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.metrics import mean
from pipeline.plan_file import Plan
from pipeline.score import classes, numbers
from pipeline.score.calibration import summarise_confidence
from pipeline.score.found import CaseFound
from pipeline.score.membranes import MembraneCounts
from pipeline.score.objects import ObjectCounts
from pipeline.score.tasks import Wanted
from pipeline.space.grid import SYMBOLS

Scores = dict[str, Any]
OBJECT_FIGURES = ("pq", "sq", "rq", "f1", "ap", "n_truth", "n_predicted")
TABLES = {"cases": "", "region_cases": "-regions", "object_cases": "-objects"}
"""Rows of scores.json that are written as CSV too, and what is added to the file's name."""


def summarise(found: Sequence[CaseFound], plan: Plan, wanted: Wanted, held_out: str) -> Scores:
    """Figures of all cases, their means by split, and the rules that they follow.

    Args:
        found: Of every scored case what was measured.
        plan: Its classes or target, and the unit of its spacing.
        wanted: What was measured.
        held_out: The split whose means are the run's score.
    """
    if plan.target is not None:
        return _of_numbers(found, plan.target.name, held_out)
    return _of_classes(found, plan, wanted, held_out)


def _of_numbers(found: Sequence[CaseFound], target: str, held_out: str) -> Scores:
    means = {
        split: numbers.summarise_numbers([case for case in found if case.split == split])
        for split in _splits(found, held_out)
    }
    of_all = means[held_out]
    return {
        "rules": numbers.RULES,
        "mean": {name: of_all[name] for name in numbers.MEANS},
        "targets": {target: of_all},
        "splits": {split: {"targets": {target: figures}} for split, figures in means.items()},
        "cases": [numbers.case_row(case, target) for case in found],
    }


def _of_classes(found: Sequence[CaseFound], plan: Plan, wanted: Wanted, held_out: str) -> Scores:
    kinds = {"class": wanted.scored, "region": wanted.regions}
    rows = {
        kind: [row for case in found for row in classes.case_rows(case, kind, groups)]
        for kind, groups in kinds.items()
    }
    units = _units(found, wanted)
    comparable = units["distance"] is not None
    by_split = {
        split: {
            kind: classes.summarise(
                [r for r in rows[kind] if r["split"] == split], list(names), kind, comparable
            )
            for kind, names in kinds.items()
        }
        for split in _splits(found, held_out)
    }
    splits = {
        split: {
            "mean": means["class"]["mean"],
            "classes": means["class"]["groups"],
            "regions": _with_members(means["region"]["groups"], plan, wanted),
        }
        for split, means in by_split.items()
    }
    here = [case for case in found if case.split == held_out]
    return {
        "rules": classes.RULES,
        **splits[held_out],
        "splits": splits,
        "units": units,
        "confusion": _confusion(here, plan),
        "objects": _objects(here, wanted),
        "calibration": _calibration(here),
        "membranes": _membranes(here),
        "cases": rows["class"],
        "region_cases": rows["region"],
        "object_cases": [row for case in found for row in _object_rows(case)],
    }


def _splits(found: Sequence[CaseFound], held_out: str) -> list[str]:
    """Splits that have scored cases, the held-out one first, in any case."""
    return list(dict.fromkeys([held_out, *sorted({case.split for case in found})]))


def _with_members(groups: dict[str, Scores], plan: Plan, wanted: Wanted) -> dict[str, Scores]:
    names = [c.name for c in plan.classes]
    return {
        region: {**figures, "of": [names[label] for label in wanted.regions[region]]}
        for region, figures in groups.items()
    }


def _units(found: Sequence[CaseFound], wanted: Wanted) -> Scores:
    """Units of distances and volumes; None where cases have several, which have no mean."""
    units = {(case.unit, case.in_ml, len(case.grid.shape)) for case in found}
    if len(units) > 1:
        return {"distance": None, "volume": None, "tolerance": wanted.tolerance}
    unit, in_ml, ndim = next(iter(units))
    symbol = SYMBOLS.get(unit, unit) if unit else "voxels"
    size = f"{symbol}{'³' if ndim == 3 else '²'}" if unit else "voxels"
    volume = "ml" if in_ml else size
    return {"distance": symbol, "volume": volume, "tolerance": wanted.tolerance}


def _confusion(found: Sequence[CaseFound], plan: Plan) -> Scores:
    size = len(plan.classes)
    total = sum((case.matrix for case in found), np.zeros((size, size), np.int64))
    return {"classes": [c.name for c in plan.classes], "counts": total.tolist()}


def _calibration(found: Sequence[CaseFound]) -> Scores | None:
    counts = [case.confidence for case in found]
    kept = [c for c in counts if c is not None]
    return summarise_confidence(np.sum(kept, axis=0)) if kept else None


def _objects(found: Sequence[CaseFound], wanted: Wanted) -> Scores | None:
    """Objects of all cases together, by class."""
    told = [case.objects for case in found if case.objects]
    if not told:
        return None
    together = {
        name: sum((of_case[name] for of_case in told), ObjectCounts()) for name in wanted.scored
    }
    return {
        name: {
            **_object_figures(counts),
            "ap_per_case": mean([ap for of_case in told if (ap := of_case[name].ap) is not None]),
            "by_iou": counts.by_iou,
        }
        for name, counts in together.items()
    }


def _object_rows(found: CaseFound) -> list[Scores]:
    place = {"case": found.case, "split": found.split}
    return [
        {**place, "class": name, **_object_figures(counts)}
        for name, counts in found.objects.items()
    ]


def _object_figures(counts: ObjectCounts) -> Scores:
    return {name: getattr(counts, name) for name in OBJECT_FIGURES}


def _membranes(found: Sequence[CaseFound]) -> Scores | None:
    told = {case.case: counts for case in found if (counts := case.membranes) is not None}
    if not told:
        return None
    together = sum(told.values(), MembraneCounts())
    rows = [{"case": case, "rand": c.rand, "warping": c.warping} for case, c in told.items()]
    return {"rand": together.rand, "warping": together.warping, "cases": rows}


def tables(scores: Scores) -> dict[str, list[Scores]]:
    """Rows of scores.json by what is added to its name for their CSV file; none without rows."""
    return {suffix: scores[name] for name, suffix in TABLES.items() if scores.get(name)}
