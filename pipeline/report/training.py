"""The training log as curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from pipeline.io.ngff import COLORS
from pipeline.report.charts import Series, line_chart
from pipeline.report.facts import Evidence
from pipeline.report.words import counted

Rows = Mapping[int, Mapping[str, Any]]
MOST_LINES = 8
"""Classes that have a line of their own."""


def training(evidence: Evidence) -> dict[str, Any]:
    """Curves over steps; of a step that was logged twice, before and after a kill, the later."""
    of_kind = {
        kind: {name: _rows(log, kind) for name, log in evidence.logs.items()}
        for kind in ("train", "val")
    }
    train, val = of_kind["train"], of_kind["val"]
    loss = _curve("training loss", _each(train, "loss", "loss"), caption=_joined(_from_to, train))
    rate = _curve("learning rate", _each(train, "learning rate", "learning_rate"))
    if evidence.regression:
        validated = _error_curves(val)
    elif len(val) == 1:
        validated = [_dice_curve(evidence, *val.values())]
    else:
        validated = [_mean_dice_curve(val)]
    curves = [c for c in (loss, *validated, rate) if c["svg"]]
    return {"curves": curves, "training_lead": _joined(_lead, train)}


def _rows(log: Sequence[Mapping[str, Any]], kind: str) -> Rows:
    return {row["step"]: row for row in log if row["kind"] == kind}


def _each(by_fold: Mapping[str, Rows], name: str, key: str) -> list[Series]:
    """A line for each fold, or one."""
    return [_series(fold or name, rows, key) for fold, rows in by_fold.items()]


def _joined(say: Callable[[Rows], str], by_fold: Mapping[str, Rows]) -> str:
    """What there is to say of each fold, or of the one network."""
    said = {fold: say(rows) for fold, rows in by_fold.items()}
    return " ".join(f"{fold.capitalize()}: {text}" if fold else text for fold, text in said.items())


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
    if len(colors) > MOST_LINES:
        return _range_curve(val, by_class)
    series = [_series(name, by_class, name, color) for name, color in colors.items()]
    series.append(_series("mean", val, "dice"))
    curve = _curve("validation Dice", series, caption=_best(val), y_range=(0.0, 1.0))
    return curve | {"classes": [{"name": n, "color": color} for n, color in colors.items()]}


def _range_curve(val: Rows, by_class: Rows) -> dict[str, Any]:
    """The mean, and of each step the lowest and the highest class: more are not told apart."""
    known = {s: [v for v in row.values() if v is not None] for s, row in by_class.items()}
    ends = {s: {"lowest": min(of), "highest": max(of)} for s, of in known.items() if of}
    colors = {"lowest": COLORS[5], "highest": COLORS[4]}
    series = [_series(name, ends, name, color) for name, color in colors.items()]
    series.append(_series("mean", val, "dice"))
    curve = _curve("validation Dice", series, caption=_best(val), y_range=(0.0, 1.0))
    legend = [{"name": f"{n} class", "color": color} for n, color in colors.items()]
    return curve | {"classes": legend}


def _mean_dice_curve(val: Mapping[str, Rows]) -> dict[str, Any]:
    """A line for each fold, on its own cases."""
    caption, series = _joined(_best, val), _each(val, "mean", "dice")
    return _curve("validation Dice", series, caption=caption, y_range=(0.0, 1.0))


def _error_curves(val: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """R² and mean absolute error, means over the validation cases."""
    return [
        _r2_curve(val),
        _curve("validation MAE", _each(val, "MAE", "mae")),
    ]


def _r2_curve(val: Mapping[str, Rows]) -> dict[str, Any]:
    """From 0 to 1: a first figure of -20 would leave no room for what comes after it."""
    series, caption = _each(val, "R²", "r2"), _joined(_best_r2, val)
    finite = [replace(s, points=tuple(p for p in s.points if isfinite(p[1]))) for s in series]
    values = [y for s in finite for _, y in s.points]
    if not any(y > 0 for y in values):
        return _curve("validation R²", series, caption=caption)
    if any(y < 0 for y in values):
        caption += " What is below 0 is drawn at 0."
    floored = [replace(s, points=tuple((x, max(0.0, y)) for x, y in s.points)) for s in finite]
    return _curve("validation R²", floored, caption=caption, y_range=(0.0, 1.0))


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
