"""How well single objects were found, and how true the probabilities are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.io.ngff import COLORS
from pipeline.report.charts import Series, line_chart, reliability_chart
from pipeline.report.facts import Evidence
from pipeline.report.figures import object_figures, told
from pipeline.report.tables import Line, Table
from pipeline.report.words import count, dice

Color = tuple[int, int, int] | None
THRESHOLDS = {"precision": COLORS[0], "recall": COLORS[1], "ap": COLORS[2], "f1": None}
"""Figures over the overlap that an object needs, and their colours; the last on top."""
MOST_LINES = 8


def objects(evidence: Evidence) -> dict[str, Any]:
    """Figures of objects by class, and how they fall with the overlap that is asked for."""
    found: Mapping[str, Any] = evidence.scores.get("objects") or {}
    figures = told(object_figures(), list(found.values()))
    if not figures:
        return {"objects": None, "object_charts": []}
    lines = [
        Line(name, evidence.color(name), (), [f.of(row) for f in figures])
        for name, row in found.items()
    ]
    return {
        "objects": Table([f.name for f in figures], lines),
        "object_charts": [c for c in _charts(evidence, found) if c["svg"]],
    }


def _charts(evidence: Evidence, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of one class all figures in one chart; of several a chart per figure, a line per class."""
    if len(found) == 1:
        [rows] = [row.get("by_iou") or [] for row in found.values()]
        series = [_series(key, rows, key, color) for key, color in THRESHOLDS.items()]
        legend = {_named(key): color for key, color in THRESHOLDS.items()}
        return [_chart("share", [s for s in series if s.points], legend)]
    shown = list(found)[:MOST_LINES]
    legend = {name: evidence.color(name) for name in shown}
    charts = []
    for key in ("f1", "ap"):
        series = [
            _series(name, found[name].get("by_iou") or [], key, legend[name]) for name in shown
        ]
        charts.append(_chart(_named(key), [s for s in series if s.points], legend))
    return charts


def _series(name: str, rows: Sequence[Mapping[str, Any]], key: str, color: Color) -> Series:
    points = [(float(r["iou"]), float(r[key])) for r in rows if r.get(key) is not None]
    return Series(name, tuple(sorted(points)), color)


def _named(key: str) -> str:
    return key.upper() if key in ("f1", "ap") else key


def _chart(label: str, series: Sequence[Series], legend: Mapping[str, Color]) -> dict[str, Any]:
    svg = line_chart(series, x_label="overlap (IoU) asked for", y_label=label, y_range=(0.0, 1.0))
    return {"svg": svg, "legend": legend}


def calibration(evidence: Evidence) -> dict[str, Any]:
    """How often the network is right where it is so and so sure; None where it was not asked."""
    told_of = evidence.scores.get("calibration") or {}
    bins = [b for b in told_of.get("bins") or [] if b.get("count")]
    if not bins:
        return {"calibration": None}
    points = [(float(b["confidence"]), float(b["accuracy"])) for b in bins]
    total = sum(b["count"] for b in bins)
    shares = [(float(b["low"]), float(b["high"]), b["count"] / total) for b in bins]
    return {
        "calibration": {
            "svg": reliability_chart(points, shares),
            "ece": dice(told_of.get("ece")),
            "voxels": count(total),
        }
    }


def membranes(evidence: Evidence) -> dict[str, Any]:
    """The two errors of the ISBI 2012 challenge; nothing where they were not asked for."""
    found = evidence.scores.get("membranes") or {}
    names = {"rand": "Rand error", "warping": "warping error"}
    known = {name: found[key] for key, name in names.items() if found.get(key) is not None}
    return {"membranes": [(name, f"{value:.6f}") for name, value in known.items()]}
