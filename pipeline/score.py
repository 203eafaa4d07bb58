"""Masks + truth → exact integer counts → Dice and the rest."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.errors import CaseError, NothingUsableError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent
from pipeline.io.files import write_atomic, write_json
from pipeline.io.manifest import ManifestRow, QuarantineRow, replace_quarantine, usable_cases
from pipeline.io.mask_store import MaskStore
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_store import VolumeStore
from pipeline.metrics import class_counts, confusion, mean
from pipeline.model_file import read_card

STAGE = "score"
RULES = (
    "Voxels are counted where the truth names a class and the image has data; the background is "
    "not scored. Dice = 2 tp / (2 tp + fp + fn) per case and class. A class absent from both truth "
    "and mask of a case is empty there: counted, not averaged. A class's figure is the mean over "
    "the cases of the held-out split; the headline is the mean over classes."
)


class ScoreSettings(BaseModel):
    """What is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    held_out: Literal["test", "val", "train"] = "test"
    """The split whose mean is the run's score; every labelled case is listed all the same."""


@dataclass(frozen=True)
class ScoreTask:
    """One case to score."""

    case: str
    """Case id."""
    split: str
    """Its split."""
    mask: Path
    """Its mask store."""
    volume: Path
    """Its volume store."""
    classes: int
    """Number of classes, K."""


def plan_score(
    rows: Sequence[ManifestRow], volumes: Path, masks: Path, classes: int
) -> list[ScoreTask]:
    """One task per labelled case whose mask was made."""
    return [
        ScoreTask(row.id, row.split, masks / f"{row.id}.zarr", volumes / row.store, classes)
        for row in rows
        if row.labelled and (masks / f"{row.id}.zarr").exists()
    ]


def count_case(task: ScoreTask) -> NDArray[np.int64]:
    """A case's confusion matrix, (K, K), truth by row; memory of one shard at a time.

    Raises:
        CaseError: Mask and volume are not of the same image.
    """
    mask, volume = MaskStore(task.mask), VolumeStore(task.volume)
    if mask.grid.shape != volume.grid.shape:
        raise CaseError(
            f"its mask has shape {mask.grid.shape}, its truth {volume.grid.shape}.",
            "Run `segflow predict` again.",
        )
    if _image_sha256(mask.attributes["sources"]) != _image_sha256(volume.sources):
        raise CaseError(
            "its mask was made from another version of its image.", "Run `segflow predict` again."
        )
    total = np.zeros((task.classes, task.classes), np.int64)
    for window in mask.windows():
        total += confusion(mask.read(window), volume.read_truth(window), task.classes)
    return total


def _image_sha256(sources: Sequence[dict[str, Any]]) -> list[str]:
    return [source["sha256"] for source in sources if source["role"] == "image"]


def score(
    settings: ScoreSettings,
    execute: ExecuteSettings,
    *,
    model: Path,
    manifest: Path,
    quarantine: Path,
    volumes: Path,
    predictions: Path,
    path: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score the run's masks and write ``scores.json`` and ``scores.csv``.

    Args:
        settings: Which split is held out.
        execute: Where tasks run.
        model: Weights whose masks are scored.
        manifest: The cases.
        quarantine: File that cases which cannot be scored are added to.
        volumes: Folder of the volume stores.
        predictions: Folder of the predictions.
        path: scores.json.
        progress: Told of every case.

    Returns:
        The content of scores.json.

    Raises:
        NothingUsableError: There is no mask of a labelled case, or none could be scored.
    """
    card = read_card(model)
    masks = predictions / card.model_id
    tasks = plan_score(
        usable_cases(manifest, None, volumes), volumes, masks, len(card.plan.classes)
    )
    if not tasks:
        raise NothingUsableError(f"{masks} holds no mask of a labelled case: run `segflow predict`")
    counted: dict[str, NDArray[np.int64]] = {}
    refused: list[QuarantineRow] = []
    for number, done in enumerate(run_tasks(count_case, tasks, _place(execute, tasks)), start=1):
        note = case = done.task.case
        if done.row is not None:
            counted[case] = done.row
        elif done.error is not None:
            refused.append(QuarantineRow(case, STAGE, done.error.reason, done.error.remedy))
            note = f"{case}: quarantined, {done.error.reason}"
        progress(STAGE, number, len(tasks), note)
    replace_quarantine(quarantine, STAGE, refused)
    if not counted:
        raise NothingUsableError(f"no mask could be scored; {refused[0].case}: {refused[0].reason}")
    scored = [task for task in tasks if task.case in counted]
    rows = [r for t in scored for r in _rows(t, counted[t.case], card.plan.label_classes)]
    result = summarise(rows, card.plan.label_classes, settings.held_out)
    result = {"model_id": card.model_id, "split": settings.held_out, "rules": RULES, **result}
    write_json(path, result)
    write_atomic(path.with_suffix(".csv"), _csv(rows).encode())
    return result


def _place(execute: ExecuteSettings, tasks: Sequence[ScoreTask]) -> ExecuteSettings:
    # Counting a small mask takes milliseconds: workers would cost more than they save.
    few = sum(np.prod(MaskStore(task.mask).grid.shape) for task in tasks) < 2**28
    return execute.model_copy(update={"on": "serial"}) if few and execute.on == "local" else execute


def _rows(
    task: ScoreTask, matrix: NDArray[np.int64], classes: Sequence[LabelClass]
) -> list[dict[str, Any]]:
    """A row per scored class of a case."""
    counts = class_counts(matrix)
    rows = []
    for label in classes:
        if label.background:
            continue
        c = counts[label.label]
        scores = {"dice": c.dice, "iou": c.iou, "precision": c.precision, "recall": c.recall}
        place = {"case": task.case, "split": task.split, "class": label.name}
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


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
