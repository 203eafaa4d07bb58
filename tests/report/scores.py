"""Builder of scores with every figure there is, for pages that need no store."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.test_report import MODEL_ID

SHARES = ("dice", "iou", "precision", "recall", "specificity")
MEASURES = ("volume", "volume_truth", "volume_difference", "hd95", "msd", "nsd")
OBJECTS = ("pq", "sq", "rq", "f1", "ap")


def full_scores(
    classes: list[str],
    cases: dict[str, int],
    *,
    regions: dict[str, list[str]] | None = None,
    objects: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """scores.json of noise, with all that segflow can measure.

    Args:
        classes: Names of the scored classes; the background stands before them.
        cases: How many there are of each split.
        regions: Unions of classes.
        objects: Whether objects were matched.
        seed: Of the noise.
    """
    random = np.random.default_rng(seed)
    regions = regions or {}
    names = [(f"{split}_{n:03}", split) for split, count in cases.items() for n in range(count)]
    rows = [
        _row(random, *place, "class", name, i) for place in names for i, name in enumerate(classes)
    ]
    region_rows = [_row(random, *place, "region", name, 0) for place in names for name in regions]
    splits = {split: _means(rows, region_rows, classes, regions, split) for split in cases}
    return {
        "model_id": MODEL_ID,
        "task": "segmentation",
        "split": "test",
        "rules": "Counts are summed per case.",
        **splits["test"],
        "splits": splits,
        "units": {"distance": "mm", "volume": "ml", "tolerance": 1.0},
        "confusion": _confusion(random, ["background", *classes]),
        "objects": {name: _objects(random) for name in classes} if objects else None,
        "calibration": _calibration(),
        "membranes": None,
        "cases": rows,
        "region_cases": region_rows,
        "object_cases": [
            {"case": case, "split": split, "class": name, **_object_figures(random)}
            for case, split in names
            for name in classes
        ]
        if objects
        else [],
    }


def _row(random: Any, case: str, split: str, kind: str, name: str, i: int) -> dict[str, Any]:
    dice = float(np.clip(random.beta(18, 2 + i % 5), 0, 1))
    figures: dict[str, Any] = dict.fromkeys((*SHARES, *MEASURES))
    if random.random() > 0.02:
        true = float(random.uniform(800, 2600) / (i + 1))
        made = true * float(random.normal(1, 0.05))
        figures = {
            "dice": dice,
            "iou": dice / (2 - dice),
            "precision": min(1.0, dice + 0.03),
            "recall": dice - 0.02,
            "specificity": 0.99,
            "volume": made,
            "volume_truth": true,
            "volume_difference": made - true,
            "hd95": float(random.gamma(2, 1.4)),
            "msd": float(random.gamma(2, 0.2)),
            "nsd": min(1.0, dice + 0.05),
        }
    counts = {"tp": 10, "fp": 1, "fn": 1, "tn": 100}
    return {"case": case, "split": split, kind: name, **figures, **counts}


def _means(
    rows: list[dict[str, Any]],
    region_rows: list[dict[str, Any]],
    classes: list[str],
    regions: dict[str, list[str]],
    split: str,
) -> dict[str, Any]:
    by_class = {
        n: _mean([r for r in rows if r["class"] == n and r["split"] == split]) for n in classes
    }
    by_region = {
        n: _mean([r for r in region_rows if r["region"] == n and r["split"] == split]) | {"of": of}
        for n, of in regions.items()
    }
    dice = float(np.mean([c["dice"] for c in by_class.values()]))
    iou = float(np.mean([c["iou"] for c in by_class.values()]))
    mean = {"dice": dice, "iou": iou, "dice_ci": [dice - 0.012, dice + 0.011]}
    return {"mean": mean, "classes": by_class, "regions": by_region}


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    told = [row for row in rows if row["dice"] is not None]
    figures = {k: float(np.mean([r[k] for r in told])) for k in (*SHARES, *MEASURES)}
    ends = [figures["dice"] - 0.01, figures["dice"] + 0.01]
    return {**figures, "n_cases": len(told), "n_empty": len(rows) - len(told), "dice_ci": ends}


def _confusion(random: Any, names: list[str]) -> dict[str, Any]:
    n = len(names)
    counts = random.gamma(0.4, 900, (n, n)).astype(int) + np.diag(random.integers(9e4, 9e6, n))
    return {"classes": names, "counts": counts.tolist()}


def _object_figures(random: Any) -> dict[str, Any]:
    return {k: float(random.beta(8, 2)) for k in OBJECTS} | {"n_truth": 31, "n_predicted": 29}


def _objects(random: Any) -> dict[str, Any]:
    tops = {"precision": 0.9, "recall": 0.84, "f1": 0.87, "ap": float(random.uniform(0.6, 0.8))}
    by_iou = [
        {"iou": float(t), **{name: top - 3 * (t - 0.5) ** 2 for name, top in tops.items()}}
        for t in np.arange(0.5, 0.96, 0.05)
    ]
    return {**_object_figures(random), "n_truth": 1234, "n_predicted": 1100, "by_iou": by_iou}


def _calibration() -> dict[str, Any]:
    bins: list[dict[str, Any]] = [
        {"low": i / 10, "high": (i + 1) / 10, "count": 0, "confidence": None, "accuracy": None}
        for i in range(10)
    ]
    for i in range(3, 10):
        bins[i] |= {"count": 10 ** (i // 2), "confidence": i / 10 + 0.05, "accuracy": i / 10}
    return {"ece": 0.0312, "bins": bins}
