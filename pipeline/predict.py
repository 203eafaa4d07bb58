"""Volume store + checkpoint → mask store, one task per group of output shards."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from pipeline.errors import CaseError, NothingUsableError, StoreError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent, unexpected
from pipeline.io.files import digest, write_json
from pipeline.io.ledger import Ledger
from pipeline.io.manifest import QuarantineRow, replace_quarantine, usable_cases
from pipeline.io.mask_store import MaskSpec, MaskWriter, mask_windows
from pipeline.io.store import partial_key, published_key
from pipeline.io.volume_store import VolumeStore, no_label
from pipeline.model_file import ModelCard, load_model, read_card, versions
from pipeline.network_tiling import pass_bytes, plan_tiling, process_bytes
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase, predict_case, self_test
from pipeline.space import Shape, Window
from pipeline.tiled import (
    Processor,
    Tiling,
    best_processor,
)

STAGE = "predict"
VERSION = 2
"""Raised when the same volume and weights would give another mask."""
TASK_VOXELS = 64 * 2**20
"""Small cases and shards are put together into tasks of about this many voxels."""


class PredictSettings(BaseModel):
    """Which cases are predicted, and in what tiles."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    splits: tuple[Literal["train", "val", "test", "unlabelled"], ...] = (
        "train",
        "val",
        "test",
        "unlabelled",
    )
    """Splits whose cases get a mask."""
    tile: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Voxels labelled in one pass, rounded up to the network's stride; null: as many as memory
    allows. Any tile gives the same mask."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """What one forward pass may hold; null: an eighth of the machine's memory."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the network's arithmetic; ``auto``: bfloat16 where the processor has it."""


@dataclass(frozen=True)
class CaseToPredict:
    """A case and where its mask goes."""

    case: str
    """Case id."""
    store: Path
    """Its volume store."""
    final: Path
    """Its mask store."""


@dataclass(frozen=True)
class Piece:
    """A box of one mask: whole shards."""

    final: Path
    """The mask store."""
    store: Path
    """The volume store."""
    window: Window
    """What to fill, on the case's own grid."""

    @property
    def unit(self) -> str:
        """The piece's name in the ledger."""
        return "-".join(map(str, self.window.start))


@dataclass(frozen=True)
class PredictTask:
    """Pieces to label one after the other: shards of a large volume, or several small volumes."""

    model: Path
    """Weights."""
    weights_sha256: str
    """Their digest: a worker keeps the network of the last digest it met."""
    plan: Plan
    """Their plan."""
    pieces: tuple[Piece, ...]
    """What to label."""
    tiling: Tiling
    """How the network is laid over the volume."""
    processor: Processor
    """Where it runs."""
    threads: int | None
    """Threads of the network; None: as the process has them."""


@dataclass(frozen=True)
class Predicted:
    """What ``predict`` made."""

    masks: tuple[Path, ...]
    """Mask stores, ordered by case."""
    refused: tuple[QuarantineRow, ...]
    """Cases that could not be predicted."""


def plan_predict(
    case: CaseToPredict, card: ModelCard, tiling: Tiling, processor: Processor, run_name: str
) -> tuple[MaskSpec, list[Piece]]:
    """A case's mask and the pieces to label; attributes only, no voxel.

    Raises:
        CaseError: The volume has other axes or channels than the plan.
    """
    volume = VolumeStore(case.store)
    plan = card.plan
    if misfit := plan.misfit(volume.grid, len(volume.channels)):
        raise CaseError(f"{misfit}.", "Predict it with a model trained on images like it.")
    key = digest(
        VERSION,
        volume.key,
        card.weights_sha256,
        card.plan_key,
        # Exact tiles of any size give the same mask, so their size makes no other one of it.
        tiling.to_json() if tiling.blend == "gaussian" else tiling.blend,
        processor.precision,
        processor.channels_last,
    )
    provenance = {
        "run": run_name,
        "sources": volume.sources,
        "volume": volume.key,
        "model": {"id": card.model_id, "weights_sha256": card.weights_sha256},
        "plan": card.plan_key,
        # Of exact tiles only the halo: their size follows the machine and changes no voxel.
        "tiling": tiling.to_json()
        if tiling.blend == "gaussian"
        else {k: v for k, v in tiling.to_json().items() if k != "tile"},
        "precision": processor.precision,
        "versions": versions(),
    }
    target = None if plan.target is None else plan.target.name
    spec = MaskSpec(volume.grid, plan.label_classes, key, provenance, target)
    pieces = [
        Piece(case.final, case.store, window)
        for window in mask_windows(volume.grid.shape, plan.mask_dtype)
    ]
    return spec, pieces


@dataclass(frozen=True)
class Labelled:
    """A piece's row: written, or refused."""

    final: Path
    """The mask store."""
    unit: str
    """The piece's name in the ledger."""
    seconds: float = 0.0
    """Time it took."""
    peak_bytes: int = 0
    """Highest memory of the process so far."""
    error: CaseError | None = None
    """Why it could not be labelled."""

    @classmethod
    def failed(cls, piece: Piece, error: CaseError | None) -> Labelled:
        """The row of a piece whose task did not return."""
        return cls(piece.final, piece.unit, error=error)


def predict_shards(task: PredictTask) -> list[Labelled]:
    """Label and write the pieces of one task; a piece that fails does not stop its neighbours."""
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    model = network(task.model, task.weights_sha256, task.processor)
    rows = []
    for piece in task.pieces:
        try:
            rows.append(_label(piece, model, task))
        except Exception as error:  # one bad case never stops the night
            rows.append(Labelled.failed(piece, unexpected(error)))
    return rows


def _label(piece: Piece, model: nn.Module, task: PredictTask) -> Labelled:
    started = time.monotonic()
    volume, plan = VolumeStore(piece.store), task.plan
    case = PlannedCase.of(volume, plan)
    made = predict_case(model, case, piece.window, task.tiling, task.processor, plan.decision)
    valid = volume.read_valid(piece.window)
    MaskWriter(piece.final).write(piece.window, _with_nodata(made, valid, plan.mask_dtype))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    return Labelled(piece.final, piece.unit, time.monotonic() - started, peak)


def _with_nodata(
    made: NDArray[Any], valid: NDArray[np.bool_], dtype: np.dtype[Any]
) -> NDArray[Any]:
    result = made.astype(dtype)
    result[~valid] = no_label(dtype)
    return result


@lru_cache(maxsize=1)
def network(path: Path, weights_sha256: str, processor: Processor) -> nn.Module:
    """The trained network, placed; kept by the process between tasks."""
    model, card = load_model(path)
    return processor.place(model, card.plan.ndim)


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
    rows = usable_cases(manifest, settings.splits, volumes)
    folder = output / card.model_id
    cases = [CaseToPredict(r.id, volumes / r.store, folder / f"{r.id}.zarr") for r in rows]
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

    A mask that stands already for the same voxels, weights, plan and tiling is left alone. A case
    is published as soon as its last piece is written.
    """
    started = time.monotonic()
    card = read_card(model)
    processor = best_processor(card.plan.ndim, precision=settings.precision)
    network(model, card.weights_sha256, processor)  # damaged weights are no case's fault
    tiling = plan_tiling(
        card.plan,
        processor.precision,
        settings.memory_gb,
        settings.tile,
        _largest(cases, card.plan),
        (execute.workers or os.cpu_count() or 1) if execute.on == "local" else 1,
    )
    refused: dict[str, CaseError] = {}
    works: dict[Path, CaseWork] = {}
    for case in cases:
        try:
            spec, pieces = plan_predict(case, card, tiling, processor, run_name)
        except CaseError as error:
            refused[case.case] = error
            continue
        except StoreError as error:
            refused[case.case] = CaseError(f"{error}.", "Run `segflow ingest`.")
            continue
        if published_key(case.final) != spec.key:
            record = Ledger(ledger / STAGE / card.model_id / f"{case.case}.jsonl")
            works[case.final] = CaseWork.begin(case, spec, pieces, record)
    todo = [piece for work in works.values() for piece in work.left.values()]
    place = _place(execute, processor, todo)
    tasks = _tasks(todo, model, card, tiling, processor, place)
    baseline, peak, ready = process_bytes(), 0, 0
    for done in run_tasks(predict_shards, tasks, place):
        rows = done.row or [Labelled.failed(p, done.error) for p in done.task.pieces]
        for row in rows:
            ready += 1
            work = works[row.final]
            progress(STAGE, ready, len(todo), work.note(row))
            peak = max(peak, row.peak_bytes)
            if row.error is None:
                work.done(row)
            else:
                refused[work.case.case] = row.error
    if todo:
        seam = _self_test(todo, refused, model, card, tiling, processor)
        facts: dict[str, Any] = {"seam": seam, "cases": len(works), "peak_bytes": peak}
        facts |= {"voxels": sum(p.window.size for p in todo), "seconds": time.monotonic() - started}
        write_json(
            ledger / f"{STAGE}.json", _record(card, tiling, processor, cases, baseline) | facts
        )
    else:
        progress(STAGE, 1, 1, "up to date")
    return Predicted(
        tuple(case.final for case in cases if case.case not in refused),
        tuple(QuarantineRow(c, STAGE, e.reason, e.remedy) for c, e in refused.items()),
    )


@dataclass
class CaseWork:
    """What is left to do of one mask."""

    case: CaseToPredict
    """The case."""
    key: str
    """The mask's key."""
    left: dict[str, Piece]
    """Pieces to label, by unit."""
    ledger: Ledger
    """Record of the finished ones."""

    @classmethod
    def begin(
        cls, case: CaseToPredict, spec: MaskSpec, pieces: Sequence[Piece], record: Ledger
    ) -> CaseWork:
        """Create the mask's store, or go on with the one an earlier try left."""
        if partial_key(case.final) != spec.key:
            record.forget()
            MaskWriter.create(case.final, spec)
        left = {p.unit: p for p in pieces if record.done(p.unit, spec.key) is None}
        work = cls(case, spec.key, left, record)
        work._publish_if_whole()
        return work

    def done(self, row: Labelled) -> None:
        """Take note of a written piece; publish the mask after its last."""
        self.ledger.record(row.unit, self.key, {"seconds": row.seconds})
        del self.left[row.unit]
        self._publish_if_whole()

    def note(self, row: Labelled) -> str:
        """What to tell of a piece."""
        if row.error is not None:
            return f"{self.case.case}: quarantined, {row.error.reason}"
        return self.case.case

    def _publish_if_whole(self) -> None:
        if not self.left:
            MaskWriter(self.case.final).finish()


def _largest(cases: Sequence[CaseToPredict], plan: Plan) -> Shape:
    """The largest planned size on each axis, of the volumes that fit the plan."""
    largest = (1,) * plan.ndim
    for case in cases:
        if published_key(case.store) is None:
            continue
        store = VolumeStore(case.store)
        if plan.misfit(store.grid, len(store.channels)) is None:
            shape = PlannedCase.of(store, plan).shape
            largest = tuple(max(a, b) for a, b in zip(largest, shape, strict=True))
    return largest


def _place(
    execute: ExecuteSettings, processor: Processor, todo: Sequence[Piece]
) -> ExecuteSettings:
    """Where the tasks run: here, unless workers pay for their start.

    One process feeds a local GPU; and a few small volumes are done before workers have imported
    torch.
    """
    few = sum(piece.window.size for piece in todo) < TASK_VOXELS
    if execute.on == "local" and (processor.device != "cpu" or few):
        return execute.model_copy(update={"on": "serial"})
    return execute


def _tasks(
    todo: Sequence[Piece],
    model: Path,
    card: ModelCard,
    tiling: Tiling,
    processor: Processor,
    place: ExecuteSettings,
) -> list[PredictTask]:
    """Put pieces together into tasks that are worth sending, and few enough to balance."""
    cores = os.cpu_count() or 1
    workers = place.workers or cores
    threads = max(1, cores // workers) if place.on == "local" else None
    voxels = sum(piece.window.size for piece in todo)
    size = 1 if place.on == "serial" else min(TASK_VOXELS, voxels // (4 * workers))
    groups: list[list[Piece]] = []
    held = size
    for piece in todo:
        if held >= size:
            groups.append([])
            held = 0
        groups[-1].append(piece)
        held += piece.window.size
    return [
        PredictTask(model, card.weights_sha256, card.plan, tuple(group), tiling, processor, threads)
        for group in groups
    ]


def _self_test(
    todo: Sequence[Piece],
    refused: dict[str, CaseError],
    model: Path,
    card: ModelCard,
    tiling: Tiling,
    processor: Processor,
) -> dict[str, int] | None:
    """Labels that differ between tiles and one pass, on the first good case's real voxels."""
    piece = next((p for p in todo if p.final.stem not in refused), None)
    if piece is None:
        return None
    placed = network(model, card.weights_sha256, processor)
    case = PlannedCase.of(VolumeStore(piece.store), card.plan)
    return self_test(placed, case, tiling, processor, card.plan.decision)


def _record(
    card: ModelCard,
    tiling: Tiling,
    processor: Processor,
    cases: Sequence[CaseToPredict],
    baseline: int,
) -> dict[str, Any]:
    """What was decided, for the report."""
    voxels = tiling.pass_voxels(_largest(cases, card.plan))
    return {
        "model_id": card.model_id,
        **tiling.to_json(),
        "reason": tiling.reason,
        "precision": processor.precision,
        "device": processor.device,
        "channels_last": processor.channels_last,
        "estimated_bytes": baseline + pass_bytes(card.plan, voxels, processor.precision),
    }
