"""Scores of a segmentation: exact counts by class → Dice and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.ngff import LabelClass
from pipeline.metrics import class_counts, mean

RULES = (
    "Voxels are counted where the truth names a class and the image has data; the background is "
    "not scored. Dice = 2 tp / (2 tp + fp + fn) per case and class. A class absent from both truth "
    "and mask of a case is empty there: counted, not averaged. A class's figure is the mean over "
    "the cases of the held-out split; the headline is the mean over classes."
)


def class_rows(
    case: str, split: str, matrix: NDArray[np.int64], classes: Sequence[LabelClass]
) -> list[dict[str, Any]]:
    """A row per scored class of a case.

    Args:
        case: Case id.
        split: Its split.
        matrix: Its confusion matrix, (K, K), truth by row.
        classes: The classes.
    """
    counts = class_counts(matrix)
    rows = []
    for label in classes:
        if label.background:
            continue
        c = counts[label.label]
        scores = {"dice": c.dice, "iou": c.iou, "precision": c.precision, "recall": c.recall}
        place = {"case": case, "split": split, "class": label.name}
        rows.append({**place, **scores, **asdict(c)})
    return rows


def summarise(
    rows: Sequence[dict[str, Any]], classes: Sequence[LabelClass], held_out: str
) -> dict[str, Any]:
    """Means over the held-out cases, by class and over classes.

    Args:
        rows: A row per case and class, all splits.
        classes: The classes.
        held_out: The split that is averaged.

    Returns:
        ``mean``, ``classes`` and ``cases`` as scores.json holds them.
    """
    by_class: dict[str, dict[str, Any]] = {}
    for label in classes:
        if label.background:
            continue
        here = [r for r in rows if r["class"] == label.name and r["split"] == held_out]
        means = {
            name: mean([r[name] for r in here if r[name] is not None])
            for name in ("dice", "iou", "precision", "recall")
        }
        empty = sum(r["dice"] is None for r in here)
        by_class[label.name] = {**means, "n_cases": len(here) - empty, "n_empty": empty}
    dice = mean([c["dice"] for c in by_class.values() if c["dice"] is not None])
    iou = mean([c["iou"] for c in by_class.values() if c["iou"] is not None])
    return {"mean": {"dice": dice, "iou": iou}, "classes": by_class, "cases": list(rows)}
