"""Every mask against its truth, window by window, and the scores written down."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError, NothingUsableError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent
from pipeline.io.files import write_atomic, write_json
from pipeline.io.manifest import ManifestRow, QuarantineRow, replace_quarantine, usable_cases
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore
from pipeline.metrics import ErrorSums, confusion
from pipeline.model_file import read_card
from pipeline.plan_file import Plan
from pipeline.score import classes, numbers
from pipeline.score.settings import ScoreSettings

STAGE = "score"
Counted = NDArray[np.int64] | ErrorSums
"""A case's confusion matrix, (K, K), truth by row; or the sums of its errors."""


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
    classes: int | None
    """Number of classes, K; None in a regression."""


def plan_score(
    rows: Sequence[ManifestRow], volumes: Path, masks: Path, classes: int | None
) -> list[ScoreTask]:
    """One task per labelled case whose mask was made."""
    return [
        ScoreTask(row.id, row.split, masks / f"{row.id}.zarr", volumes / row.store, classes)
        for row in rows
        if row.labelled and (masks / f"{row.id}.zarr").exists()
    ]


def count_case(task: ScoreTask) -> Counted:
    """What a case's figures follow from; memory of one shard at a time.

    Raises:
        CaseError: Mask and volume are not of the same image or task, or the mask is not finite.
    """
    mask, volume = MaskStore(task.mask), VolumeStore(task.volume)
    _refuse_unlike(task, mask, volume)
    if task.classes is None:
        return _errors(mask, volume)
    total = np.zeros((task.classes, task.classes), np.int64)
    for window in mask.windows():
        total += confusion(mask.read(window), volume.read_truth(window), task.classes)
    return total


def _errors(mask: MaskStore, volume: VolumeStore) -> ErrorSums:
    errors = ErrorSums()
    for window in mask.windows():
        errors += ErrorSums.of(mask.read(window), volume.read_truth(window))
    if not isfinite(errors.squared):
        raise CaseError(
            "its mask holds infinity.", "Train again, with smaller steps, and predict again."
        )
    return errors


def _refuse_unlike(task: ScoreTask, mask: MaskStore, volume: VolumeStore) -> None:
    if mask.grid.shape != volume.grid.shape:
        raise CaseError(
            f"its mask has shape {mask.grid.shape}, its truth {volume.grid.shape}.",
            "Run `segflow predict` again.",
        )
    if _image_sha256(mask.attributes["sources"]) != _image_sha256(volume.sources):
        raise CaseError(
            "its mask was made from another version of its image.", "Run `segflow predict` again."
        )
    wanted = _content(task.classes is None)
    for what, target in (("mask", mask.target), ("truth", volume.target)):
        if (held := _content(target is not None)) != wanted:
            raise CaseError(
                f"its {what} holds {held}, the model makes {wanted}.",
                "See data.task, and run `segflow run` with all its stages.",
            )


def _content(numbers: bool) -> str:
    return "numbers" if numbers else "classes"


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
    known = usable_cases(manifest, None, volumes)
    tasks = plan_score(known, volumes, masks, len(card.plan.classes) or None)
    if not tasks:
        raise NothingUsableError(f"{masks} holds no mask of a labelled case: run `segflow predict`")
    counted: dict[str, Counted] = {}
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
    scored = {(t.case, t.split): counted[t.case] for t in tasks if t.case in counted}
    figures = _figures(scored, card.plan, settings.held_out)
    result = {"model_id": card.model_id, "task": card.plan.task, "split": settings.held_out}
    result |= figures
    write_json(path, result)
    write_atomic(path.with_suffix(".csv"), _csv(figures["cases"]).encode())
    return result


def _figures(
    counted: Mapping[tuple[str, str], Counted], plan: Plan, held_out: str
) -> dict[str, Any]:
    """Rules, means and rows, of what was counted by case and split."""
    if plan.target is not None:
        sums = {place: found for place, found in counted.items() if isinstance(found, ErrorSums)}
        made = numbers.summarise_numbers(sums, plan.target.name, held_out)
        return {"rules": numbers.RULES, **made}
    rows = [
        row
        for (case, split), found in counted.items()
        if not isinstance(found, ErrorSums)
        for row in classes.class_rows(case, split, found, plan.label_classes)
    ]
    made = classes.summarise(rows, plan.label_classes, held_out)
    return {"rules": classes.RULES, **made}


def _place(execute: ExecuteSettings, tasks: Sequence[ScoreTask]) -> ExecuteSettings:
    # Counting a small mask takes milliseconds: workers would cost more than they save.
    few = sum(np.prod(MaskStore(task.mask).grid.shape) for task in tasks) < 2**28
    return execute.model_copy(update={"on": "serial"}) if few and execute.on == "local" else execute


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
