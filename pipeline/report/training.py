"""The training log as curves."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from pipeline.report.charts import Series, line_chart
from pipeline.report.facts import Evidence
from pipeline.report.words import counted

Rows = Mapping[int, Mapping[str, Any]]


def training(evidence: Evidence) -> dict[str, Any]:
    """Curves over steps; of a step that was logged twice, before and after a kill, the later."""
    train = {r["step"]: r for r in evidence.log if r["kind"] == "train"}
    val = {r["step"]: r for r in evidence.log if r["kind"] == "val"}
    curves = [
        _curve("training loss", [_series("loss", train, "loss")], caption=_from_to(train)),
        *(_error_curves(val) if evidence.regression else [_dice_curve(evidence, val)]),
        _curve("learning rate", [_series("learning rate", train, "learning_rate")]),
    ]
    return {"curves": [c for c in curves if c["svg"]], "training_lead": _lead(train)}


def _series(name: str, rows: Rows, key: str, color: tuple[int, int, int] | None = None) -> Series:
    points = [(float(s), float(r[key])) for s, r in sorted(rows.items()) if r.get(key) is not None]
    return Series(name, tuple(points), color)


def _curve(
    label: str,
    series: list[Series],
    *,
    caption: str = "",
    y_range: tuple[float, float] | None = None,
) -> dict[str, Any]:
    svg = line_chart(series, x_label="step", y_label=label, y_range=y_range)
    return {"svg": svg, "caption": caption, "classes": []}


def _from_to(train: Rows) -> str:
    if len(train) < 2:
        return ""
    first, last = train[min(train)], train[max(train)]
    return f"From {first['loss']:.4f} to {last['loss']:.4f}."


def _dice_curve(evidence: Evidence, val: Rows) -> dict[str, Any]:
    """A line for each class, and over them the mean."""
    by_class = {step: row.get("classes") or {} for step, row in val.items()}
    colors = {name: evidence.color(name) for row in by_class.values() for name in row}
    series = [_series(name, by_class, name, color) for name, color in colors.items()]
    series.append(_series("mean", val, "dice"))
    curve = _curve("validation Dice", series, caption=_best(val), y_range=(0.0, 1.0))
    return curve | {"classes": [{"name": n, "color": color} for n, color in colors.items()]}


def _error_curves(val: Rows) -> list[dict[str, Any]]:
    """R² and mean absolute error, means over the validation cases."""
    return [
        _r2_curve(val),
        _curve("validation MAE", [_series("MAE", val, "mae")]),
    ]


def _r2_curve(val: Rows) -> dict[str, Any]:
    """From 0 to 1: a first figure of -20 would leave no room for what comes after it."""
    series, caption = _series("R²", val, "r2"), _best_r2(val)
    finite = [(x, y) for x, y in series.points if isfinite(y)]
    if not any(y > 0 for _, y in finite):
        return _curve("validation R²", [series], caption=caption)
    if any(y < 0 for _, y in finite):
        caption += " What is below 0 is drawn at 0."
    floored = Series(series.name, tuple((x, max(0.0, y)) for x, y in finite))
    return _curve("validation R²", [floored], caption=caption, y_range=(0.0, 1.0))


def _best_r2(val: Rows) -> str:
    scored = [(row["r2"], -step) for step, row in val.items() if row.get("r2") is not None]
    if not scored:
        return ""
    best, step = max(scored)
    return f"Best R² {best:.4f}, at step {-step:,}."


def _best(val: Rows) -> str:
    scored = [(row["dice"], -step) for step, row in val.items() if row["dice"] is not None]
    if not scored:
        return ""
    best, step = max(scored)
    return f"Best mean {best:.4f}, at step {-step:,}."


def _lead(train: Rows) -> str:
    if not train:
        return "The log holds no training step."
    last = train[max(train)]
    speed = float(np.median([r["patches_per_s"] for r in train.values()]))
    waiting = float(np.median([r["data_wait"] for r in train.values()]))
    return (
        f"{counted(max(train), 'step')}, {counted(last['position'], 'patch', 'patches')} seen; "
        f"median {speed:,.1f} patches per second, {waiting:.0%} of the time waiting for data."
    )
