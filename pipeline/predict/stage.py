"""Volume store + checkpoint → mask store, one task per group of output shards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.components import BlockParts, Cleanup, merge
from pipeline.errors import CaseError, NothingUsableError, StoreError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent, unexpected
from pipeline.io.files import write_json
from pipeline.io.ledger import Ledger
from pipeline.io.manifest import ManifestRow, QuarantineRow, replace_quarantine, usable_cases
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import ModelCard, read_card
from pipeline.network_tiling import process_bytes
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase, self_test
from pipeline.predict.arrangement import IN_HAND, Arrangement, CaseToPredict, arrange
from pipeline.predict.pieces import Piece, plan_predict
from pipeline.predict.refine import FindTask, Refinement, find_parts, paint, paint_tasks
from pipeline.predict.settings import PredictSettings
from pipeline.predict.tasks import (
    Labelled,
    laid_network,
    make_tasks,
    place_for,
    predict_shards,
)
from pipeline.predict.work import CaseWork

STAGE = "predict"
PROGRESS = "predict-progress.json"
"""In the ledger's folder while a prediction is under way: pieces done, and all there are."""
WRITTEN_EVERY_S = 2.0


@dataclass(frozen=True)
class Predicted:
    """What ``predict`` made."""

    masks: tuple[Path, ...]
    """Mask stores, ordered by case."""
    refused: tuple[QuarantineRow, ...]
    """Cases that could not be predicted."""


def predict(
    settings: PredictSettings,
    execute: ExecuteSettings,
    *,
    run_name: str,
    model: Path,
    manifest: Path,
    quarantine: Path,
    volumes: Path,
    output: Path,
    ledger: Path,
    progress: Progress = silent,
) -> list[Path]:
    """Predict the cases of a run.

    Args:
        settings: Which cases, in what tiles.
        execute: Where tasks run.
        run_name: Stands in the masks' provenance.
        model: Weights, with their sidecar beside them.
        manifest: The cases.
        quarantine: File that refused cases are added to.
        volumes: Folder of the volume stores.
        output: Folder of the predictions; the masks go to ``<output>/<model-id>/<case>.zarr``.
        ledger: Folder of the records of finished pieces.
        progress: Told of every piece.

    Returns:
        The mask stores.

    Raises:
        NothingUsableError: There is no case, or none could be predicted.
        ModelError: There is no usable model.
    """
    card = read_card(model)
    cases = cases_of(usable_cases(manifest, settings.splits, volumes), volumes, output, card)
    done = predict_cases(
        cases, settings, execute, run_name=run_name, model=model, ledger=ledger, progress=progress
    )
    replace_quarantine(quarantine, STAGE, done.refused)
    if not done.masks:
        first = done.refused[0]
        raise NothingUsableError(
            f"none of {len(cases)} cases could be predicted; {first.case}: {first.reason} "
            f"{first.remedy}"
        )
    return list(done.masks)


def cases_of(
    rows: Sequence[ManifestRow], volumes: Path, output: Path, card: ModelCard
) -> list[CaseToPredict]:
    """Cases of a run, and where their masks by a model go."""
    folder = output / card.model_id
    return [CaseToPredict(r.id, volumes / r.store, folder / f"{r.id}.zarr") for r in rows]


def predict_cases(
    cases: Sequence[CaseToPredict],
    settings: PredictSettings,
    execute: ExecuteSettings,
    *,
    run_name: str,
    model: Path,
    ledger: Path,
    progress: Progress = silent,
) -> Predicted:
    """Predict volume stores, or go on where an earlier try ended.

    A mask is left alone that stands already for the same voxels, weights, plan and whatever else
    changes its bytes, with all that is to stand beside it. A case is published as soon as its last
    piece is written.
    """
    started = time.monotonic()
    card = read_card(model)
    arranged = arrange(cases, settings, execute, model, card)
    laid_network(arranged)  # damaged weights are no case's fault
    refused: dict[str, CaseError] = {}
    works: dict[Path, CaseWork] = {}
    for case in cases:
        try:
            wanted = plan_predict(case, card, arranged, run_name)
        except CaseError as error:
            refused[case.case] = error
            continue
        except StoreError as error:
            refused[case.case] = CaseError(f"{error}.", "Run `segflow ingest`.")
            continue
        if wanted.is_done:
            wanted.tidy()
            continue
        record = Ledger(ledger / STAGE / card.model_id / f"{case.case}.jsonl")
        with _refusing(case.case, refused):
            works[case.final] = CaseWork.begin(wanted, record)
    todo = [piece for work in works.values() for piece in work.left.values()]
    place = place_for(execute, arranged.processor, todo)
    total = sum(work.left_to_tell for work in works.values())
    told = _Told(progress, total, ledger / PROGRESS)
    baseline, peak = process_bytes(), 0
    for done in run_tasks(
        predict_shards,
        make_tasks(todo, arranged, card.plan, place),
        place,
        IN_HAND,
        on_gpu=True,
    ):
        for row in done.row or [Labelled.failed(p, done.error) for p in done.task.pieces]:
            work = works[row.final]
            peak = max(peak, row.peak_bytes)
            with _refusing(work.case, refused):
                if row.error is not None:
                    work.failed(row, row.error)
                    raise row.error
                work.done(row)
            told.of(work.case, row.error)
    for work in works.values():
        if work.unpainted and not work.left and arranged.refinement is not None:
            with _refusing(work.case, refused):
                _refine(work, arranged.refinement, card.plan, place, told)
    for work in works.values():
        if work.wanted.is_done:  # a worker that was given up may have written once more
            work.wanted.tidy()
    if todo:
        seam = _self_test(todo, refused, arranged, card.plan)
        facts: dict[str, Any] = {"seam": seam, "cases": len(works), "peak_bytes": peak}
        facts |= {"voxels": sum(p.window.size for p in todo), "seconds": time.monotonic() - started}
        write_json(ledger / f"{STAGE}.json", _record(card, arranged, baseline) | facts)
    elif not works:
        progress(STAGE, 1, 1, "up to date")
    (ledger / PROGRESS).unlink(missing_ok=True)
    return Predicted(
        tuple(case.final for case in cases if case.case not in refused),
        tuple(QuarantineRow(c, STAGE, e.reason, e.remedy) for c, e in refused.items()),
    )


@contextmanager
def _refusing(case: str, refused: dict[str, CaseError]) -> Iterator[None]:
    """Refuse a case for whatever goes wrong with it: it never stops the night."""
    try:
        yield
    except CaseError as error:
        refused[case] = error
    except Exception as error:
        refused[case] = unexpected(error)


@dataclass
class _Told:
    """How far the stage is."""

    progress: Progress
    """Who is told."""
    total: int
    """Rows to come."""
    path: Path
    """File that says so to whoever asks meanwhile."""
    ready: int = 0
    """Rows that came."""
    _written: float = 0.0

    def of(self, case: str, error: CaseError | None = None) -> None:
        """Tell of a row."""
        self.ready += 1
        refused = "" if error is None else f": quarantined, {error.reason}"
        total = max(self.ready, self.total)
        self.progress(STAGE, self.ready, total, f"{case}{refused}")
        if time.monotonic() - self._written > WRITTEN_EVERY_S:
            write_json(self.path, {"done": self.ready, "total": total})
            self._written = time.monotonic()


def _refine(
    work: CaseWork, refinement: Refinement, plan: Plan, execute: ExecuteSettings, told: _Told
) -> None:
    """Judge the components of a mask that was drafted in pieces, and paint it.

    Raises:
        CaseError: A piece could not be searched, or painted.
    """
    final, grid = work.final, work.wanted.spec.grid

    def found() -> Iterator[BlockParts]:
        tasks = [FindTask(final, piece.window, grid, plan) for piece in work.wanted.pieces]
        for done in run_tasks(find_parts, tasks, execute):
            told.of(work.case, done.error)
            if done.row is not None:
                yield done.row
            elif done.error is not None:
                raise done.error

    units = {unit: piece.window for unit, piece in work.unpainted.items()}
    components = merge(grid.shape, found())
    failed: CaseError | None = None
    for done in run_tasks(
        paint, paint_tasks(final, units, components, grid, plan, refinement), execute
    ):
        told.of(work.case, done.error)
        if done.row is not None:
            work.painted(done.row)
        elif done.error is not None:
            failed = failed or done.error
    if failed is not None:
        raise failed


def _self_test(
    todo: Sequence[Piece],
    refused: dict[str, CaseError],
    arranged: Arrangement,
    plan: Plan,
) -> dict[str, int] | None:
    """Labels that differ between tiles and one pass, on the first good case's real voxels."""
    piece = next((p for p in todo if p.final.stem not in refused), None)
    if piece is None:
        return None
    case = PlannedCase.of(VolumeStore(piece.store), plan)
    laid = replace(laid_network(arranged), decide=plan.decision)
    return self_test(laid, case, arranged.test_side(plan))


def _record(card: ModelCard, arranged: Arrangement, baseline: int) -> dict[str, Any]:
    """What was decided, for the report."""
    processor, plan = arranged.processor, card.plan
    cleanup = Cleanup() if arranged.refinement is None else arranged.refinement.cleanup
    words = cleanup.in_words([c.name for c in plan.classes], plan.size_unit)
    return {
        "model_id": card.model_id,
        **arranged.tiling.to_json(),
        "reason": arranged.tiling.reason,
        "precision": processor.precision,
        "device": processor.device,
        "channels_last": processor.channels_last,
        "mirrored": arranged.mirror,
        "cleanup": words if cleanup.active else "",
        "estimated_bytes": baseline
        + arranged.pass_bytes(card.plan)
        + arranged.box_bytes(card.plan),
    }
