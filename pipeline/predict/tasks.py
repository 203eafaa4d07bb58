"""What a worker does: the network laid over the pieces of a task, each written as whole shards."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models import Decision, FlipMean
from pipeline.errors import CaseError, ModelError
from pipeline.execute import ExecuteSettings, unexpected
from pipeline.io.companion_store import CERTAIN, Companion, CompanionWriter
from pipeline.io.mask_store import MaskWriter
from pipeline.io.volume_store import VolumeStore, no_label
from pipeline.model_file import load_model
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase, predict_case
from pipeline.predict.arrangement import IN_HAND, Arrangement
from pipeline.predict.pieces import Piece
from pipeline.predict.refine import refine, write_refined
from pipeline.processor import Processor
from pipeline.tiled import TiledNetwork

TASK_VOXELS = 64 * 2**20
"""Small cases and shards are put together into tasks of about this many voxels."""


@dataclass(frozen=True)
class PredictTask:
    """Pieces to label one after the other: shards of a large volume, or several small volumes."""

    arranged: Arrangement
    """How they are labelled: a worker keeps the network of the last arrangement it met."""
    plan: Plan
    """The model's plan."""
    pieces: tuple[Piece, ...]
    """What to label."""
    threads: int | None
    """Threads of the network; None: as the process has them."""


@dataclass(frozen=True)
class Labelled:
    """A piece's row: written, or refused."""

    final: Path
    """The mask store."""
    unit: str
    """The piece's name in the ledger."""
    state: Literal["done", "empty", "masked", "failed"]
    """Whether it was labelled, is all background, holds no data, or went wrong."""
    seconds: float = 0.0
    """Time it took."""
    peak_bytes: int = 0
    """Highest memory of the process so far."""
    error: CaseError | None = None
    """Why it could not be labelled."""

    @classmethod
    def failed(cls, piece: Piece, error: CaseError | None) -> Labelled:
        """The row of a piece whose task did not return."""
        return cls(piece.final, piece.unit, "failed", error=error)


def predict_shards(task: PredictTask) -> list[Labelled]:
    """Label and write the pieces of one task; a piece that fails does not stop its neighbours."""
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    laid = laid_network(task.arranged)

    def label(piece: Piece) -> Labelled:
        try:
            return _label(piece, laid, task)
        except Exception as error:  # one bad case never stops the night
            return Labelled.failed(piece, unexpected(error))

    if len(task.pieces) == 1:
        return [label(task.pieces[0])]
    with ThreadPoolExecutor(IN_HAND) as pool:
        return list(pool.map(label, task.pieces))


def _label(piece: Piece, laid: TiledNetwork, task: PredictTask) -> Labelled:
    started = time.monotonic()
    volume, arranged = VolumeStore(piece.store), task.arranged
    valid = volume.read_valid(piece.window)
    state: Literal["done", "empty", "masked"] = "masked"
    computed, unknown = bool(valid.any()), None if valid.all() else ~valid
    if computed:  # else nothing is written: what is not there reads as no data
        wanted = None if unknown is None else valid
        del valid  # as large as the mask
        made = predict_case(laid, PlannedCase.of(volume, task.plan), piece.window, wanted)
        labels = made[0] if arranged.probabilities else made
        found = labels if unknown is None else labels[~unknown]
        state = "empty" if (found == task.plan.background).all() else "done"
        del found
        if unknown is not None:
            labels[unknown] = no_label(task.plan.mask_dtype)
        if arranged.probabilities:
            kept = made[1:].astype(np.uint8, copy=False)
            if unknown is not None:
                kept[:, unknown] = 0
            companion = Companion.probabilities(task.plan.output_names)
            path = companion.path(piece.final)
            CompanionWriter(companion, path).write(piece.window, kept)
        if arranged.refinement is None:
            MaskWriter(piece.final).write(piece.window, labels)
        elif piece.window.shape == volume.grid.shape:
            done = refine(labels, volume.grid, task.plan, arranged.refinement)
            write_refined(piece.final, piece.window, done)
        else:
            MaskWriter(piece.final).write_draft(piece.window, labels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    seconds = time.monotonic() - started
    return Labelled(piece.final, piece.unit, state, seconds, peak)


@dataclass(frozen=True)
class WithProbabilities:
    """A decision, and the probabilities behind it in eight bits each."""

    decision: Decision
    """How labels follow from logits."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Give the label, and after it what stands for each probability, (1 + K, *S)."""
        dtype = torch.uint8 if len(logits) <= CERTAIN else torch.int32
        kept = self.decision.probabilities(logits).mul_(CERTAIN).round_().to(dtype)
        return torch.cat([self.decision(logits)[None].to(dtype), kept])


@lru_cache(maxsize=1)
def laid_network(arranged: Arrangement) -> TiledNetwork:
    """The trained network, placed and laid over volumes; kept by the process between tasks."""
    network, card = load_model(arranged.model)
    if card.weights_sha256 != arranged.weights_sha256:
        raise ModelError(
            f"the weights {arranged.model} have changed since prediction began: run it again"
        )
    plan, processor = card.plan, arranged.processor
    asked = FlipMean(network, plan.decision.kind) if arranged.mirror else network
    placed = processor.place(asked, plan.ndim)
    decide = WithProbabilities(plan.decision) if arranged.probabilities else plan.decision
    return TiledNetwork(placed, arranged.tiling, processor, decide, plan.mask_dtype)


def place_for(
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


def make_tasks(
    todo: Sequence[Piece],
    arranged: Arrangement,
    plan: Plan,
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
    return [PredictTask(arranged, plan, tuple(group), threads) for group in groups]
