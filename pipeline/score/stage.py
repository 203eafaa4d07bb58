"""Every mask against its truth, and the scores written down.

What a case gives stands in the ledger under the key of all that it follows from: what has not
changed since the last time is not read again.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from pipeline.errors import CaseError, NothingUsableError, SettingsError, StoreError
from pipeline.execute import Done, ExecuteSettings, Progress, run_tasks, silent
from pipeline.io.files import csv_cell, write_atomic, write_json
from pipeline.io.ledger import Ledger
from pipeline.io.manifest import ManifestRow, QuarantineRow, replace_quarantine, usable_cases
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import read_card
from pipeline.plan_file import Plan
from pipeline.score.checks import refuse_unlike
from pipeline.score.found import CaseFound
from pipeline.score.measuring import Found, added, measure
from pipeline.score.settings import ScoreSettings
from pipeline.score.summary import summarise, tables
from pipeline.score.tasks import ScoreTask, Wanted, case_tasks

STAGE = "score"
FEW = 2**26
"""Voxels below which workers would cost more than they save."""


@dataclass
class _Work:
    """What is left to measure, what is known, and what is refused."""

    tasks: list[ScoreTask] = field(default_factory=list)
    voxels: int = 0
    known: dict[str, CaseFound] = field(default_factory=dict)
    refused: list[QuarantineRow] = field(default_factory=list)

    def refuse(self, case: str, error: CaseError) -> None:
        """Leave a case out."""
        self.known.pop(case, None)
        if case not in {row.case for row in self.refused}:
            self.refused.append(QuarantineRow(case, STAGE, error.reason, error.remedy))


def plan_score(
    rows: Sequence[ManifestRow], volumes: Path, masks: Path, wanted: Wanted, ledger: Ledger
) -> _Work:
    """What there is to measure of the labelled cases whose mask was made; no voxel is read."""
    work = _Work()
    for row in rows:
        path = masks / f"{row.id}.zarr"
        if not (row.labelled and path.exists()):
            continue
        try:
            mask, volume = MaskStore(path), VolumeStore(volumes / row.store)
            refuse_unlike(mask, volume, wanted.names)
        except CaseError as error:
            work.refuse(row.id, error)
            continue
        except StoreError as error:
            work.refuse(row.id, _unreadable(error))
            continue
        work.known[row.id] = CaseFound(row.id, row.split, mask.grid)
        for task in case_tasks(row.id, row.split, mask, volume, wanted):
            known = ledger.done(task.unit, task.key)
            if known is None:
                work.tasks.append(task)
                work.voxels += prod(mask.grid.shape)
            else:
                work.known[row.id].measured[task.measure] = known["found"]
    return work


def _unreadable(error: StoreError) -> CaseError:
    return CaseError(f"it cannot be scored: {error}.", "Run `segflow predict` again.")


def score(
    settings: ScoreSettings,
    execute: ExecuteSettings,
    *,
    model: Path,
    manifest: Path,
    quarantine: Path,
    volumes: Path,
    predictions: Path,
    ledger: Path,
    path: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score the run's masks and write ``scores.json`` and tables as CSV beside it.

    Args:
        settings: What is scored, and which split is held out.
        execute: Where tasks run.
        model: Weights whose masks are scored.
        manifest: The cases.
        quarantine: File that cases which cannot be scored are added to.
        volumes: Folder of the volume stores.
        predictions: Folder of the predictions.
        ledger: Folder of the records of what was measured.
        path: scores.json.
        progress: Told of every measure.

    Returns:
        The content of scores.json.

    Raises:
        NothingUsableError: There is no mask of a labelled case, or none could be scored.
        SettingsError: A region names a class that is not there.
    """
    card = read_card(model)
    masks = predictions / card.model_id
    _expect_classes(settings, card.plan)
    wanted = Wanted.of(settings, card.plan)
    record = Ledger(ledger / STAGE / f"{card.model_id}.jsonl")
    rows = usable_cases(manifest, None, volumes)
    work = plan_score(rows, volumes, masks, wanted, record)
    if not (work.known or work.refused):
        raise NothingUsableError(f"{masks} holds no mask of a labelled case: run `segflow predict`")
    _measure(work, _place(execute, work.voxels), record, progress)
    replace_quarantine(quarantine, STAGE, work.refused)
    if not work.known:
        first = work.refused[0]
        raise NothingUsableError(f"no mask could be scored; {first.case}: {first.reason}")
    result: dict[str, Any] = {
        "model_id": card.model_id,
        "task": card.plan.task,
        "split": settings.held_out,
    }
    result["unscored"] = [
        row.id
        for row in rows
        if row.labelled and row.split == settings.held_out and row.id not in work.known
    ]
    result |= summarise(list(work.known.values()), card.plan, wanted, settings.held_out)
    write_json(path, result)
    for name, table in tables(result).items():
        write_atomic(path.with_name(path.stem + name + ".csv"), _csv(table).encode())
    return result


def _expect_classes(settings: ScoreSettings, plan: Plan) -> None:
    names = [c.name for c in plan.classes]
    for key, members in settings.named_classes.items():
        if strange := [name for name in members if name not in names]:
            raise SettingsError(
                f"{key} names {', '.join(strange)}; the model's classes are "
                f"{', '.join(names) or 'none, as it predicts numbers'}"
            )


def _measure(work: _Work, execute: ExecuteSettings, record: Ledger, progress: Progress) -> None:
    """Run the tasks; a measure is recorded when its last part has come."""
    parts: dict[str, dict[int, Found]] = defaultdict(dict)
    for number, done in enumerate(run_tasks(measure, work.tasks, execute), start=1):
        note = _taken(work, done, parts[done.task.unit], record)
        progress(STAGE, number, len(work.tasks), note)


def _taken(
    work: _Work,
    done: Done[ScoreTask, Found],
    parts: dict[int, Found],
    record: Ledger,
) -> str:
    task = done.task
    if done.error is not None:
        work.refuse(task.case, done.error)
        return f"{task.case}: quarantined, {done.error.reason}"
    assert done.row is not None
    part, all_parts = task.parts
    parts[part] = done.row
    if len(parts) == all_parts:
        found = added([parts[n] for n in range(all_parts)])
        record.record(task.unit, task.key, {"found": found})
        if task.case in work.known:
            work.known[task.case].measured[task.measure] = found
    return task.case


def _place(execute: ExecuteSettings, voxels: int) -> ExecuteSettings:
    few = voxels < FEW and execute.on == "local"
    return execute.model_copy(update={"on": "serial"}) if few else execute


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()
