"""How fast the stages went, and what memory they took, as far as they recorded it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.facts import Evidence
from pipeline.report.words import count, counted, duration, measure, memory

NOT_RECORDED = "–"


@dataclass(frozen=True)
class Pace:
    """What a stage has recorded of itself, in words."""

    stage: str
    """The stage."""
    work: str
    """What was done."""
    time: str
    """How long it took."""
    speed: str
    """Work over time."""
    estimated: str
    """Memory, before it began."""
    measured: str
    """Memory, at most."""


def pace(evidence: Evidence) -> dict[str, Any]:
    """A row for each training and for the last prediction; none where nothing was recorded."""
    reasons = {} if evidence.card is None else evidence.card.plan.reasons
    logs = {fold: _training_rows(log) for fold, log in evidence.logs.items()}
    rows = [_training(fold, log, reasons) for fold, log in logs.items() if log]
    if evidence.record is not None:
        rows.append(_prediction(evidence.record))
    return {"pace": rows}


def _training_rows(log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of steps, in order; of one that was taken twice the later."""
    by_step = {row["step"]: row for row in log if row["kind"] == "train"}
    return [by_step[step] for step in sorted(by_step)]


def _training(fold: str, rows: Sequence[Mapping[str, Any]], reasons: Mapping[str, str]) -> Pace:
    seen = np.diff([0, *(row["position"] for row in rows)])
    speeds = np.array([row["patches_per_s"] for row in rows], np.float64)
    seconds = float((seen[speeds > 0] / speeds[speeds > 0]).sum())
    return Pace(
        f"train, {fold}" if fold else "train",
        f"{counted(rows[-1]['step'], 'step')}, {counted(rows[-1]['position'], 'patch', 'patches')}",
        f"{duration(seconds)}, validation apart",
        f"{measure(float(np.median(speeds)))} patches per second",
        reasons.get("memory", NOT_RECORDED),
        NOT_RECORDED,
    )


def _prediction(record: Mapping[str, Any]) -> Pace:
    seconds, cases = record["seconds"], record["cases"]
    voxels = record["voxels"] / seconds if seconds else 0.0
    estimated, peak = record["estimated_bytes"], record["peak_bytes"]
    share = f", {peak / estimated:.0%} of the estimate" if estimated else ""
    return Pace(
        "predict",
        f"{counted(cases, 'case')}, {counted(record['voxels'], 'voxel')}",
        duration(seconds),
        f"{count(voxels)} voxels per second"
        + (f", {measure(seconds / cases)} s per case" if cases else ""),
        memory(estimated),
        f"{memory(peak)}{share}",
    )
