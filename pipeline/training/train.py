"""Patches → checkpoints: plans the training, launches its processes, hears what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ModelError, StoreError, TrainingError
from pipeline.execute import Progress, silent
from pipeline.io.files import digest, read_json, remove_tree, write_json
from pipeline.io.manifest import read_manifest
from pipeline.io.patch_store import PatchStore
from pipeline.model_file import ModelCard, load_model, read_card
from pipeline.network_tiling import plan_tiling
from pipeline.plan_file import Plan
from pipeline.tiled import best_processor
from pipeline.training.bundle import try_bundle
from pipeline.training.distributed import launch
from pipeline.training.loop import TrainTask
from pipeline.training.rank import task_to_json
from pipeline.training.settings import TrainSettings

STAGE = "train"
VERSION = 2
"""Raised when the same patches would give other weights."""
# What says when training ends, not how it goes on: changed, a training is extended.
LIMITS = {"max_minutes", "max_steps", "max_epochs", "validations", "patience"}
# What changes how training runs but not what it gives.
INDIFFERENT = {"bundle", "checkpoint_minutes", "loader_workers", "tensorboard", "timeout_minutes"}


def plan_train(
    plan: Plan,
    settings: TrainSettings,
    *,
    manifest: Path,
    volumes: Path,
    patches: Path,
    checkpoints: Path,
) -> TrainTask:
    """The training, whole; reads attributes only.

    Raises:
        StoreError: There is no patch store, or it was cut for another plan.
    """
    store = PatchStore(patches)
    small = any(n < p for n, p in zip(store.attributes["shape"], plan.patch_shape, strict=True))
    if small or store.attributes.get("plan") != plan.patch_key:
        raise StoreError(f"{patches} was cut for another plan: run `segflow patch` again")
    rows = [r for r in read_manifest(manifest) if r.split == "val" and r.status == "complete"]
    held_out = rows[: settings.validation_cases]
    if settings.max_epochs is not None:
        steps = max(1, round(settings.max_epochs * len(store) / plan.batch_size))
        steps = min(steps, settings.max_steps or steps)
        settings = settings.model_copy(update={"max_steps": steps, "max_epochs": None})
    recipe = settings.model_dump(mode="json", exclude=INDIFFERENT | LIMITS | {"start_from"})
    if settings.start_from is not None:
        recipe["start_from"] = _start_sha256(settings.start_from, checkpoints)
    key = digest(
        VERSION,
        plan.content_key,
        recipe,
        store.key,
        [(row.id, row.key) for row in held_out],
    )
    return TrainTask(
        key=key,
        limits=settings.model_dump(mode="json", include=LIMITS),
        plan=plan,
        settings=settings,
        patches=patches,
        validation=tuple(volumes / row.store for row in held_out),
        checkpoints=checkpoints,
        tiling=plan_tiling(plan, best_processor(plan.ndim, precision=settings.precision).precision),
    )


def train(
    plan: Plan,
    settings: TrainSettings,
    *,
    manifest: Path,
    volumes: Path,
    patches: Path,
    checkpoints: Path,
    progress: Progress = silent,
) -> ModelCard:
    """Train a network, or go on where an earlier try ended, or find it trained.

    Args:
        plan: Network, patch and batch.
        settings: The recipe.
        manifest: The cases; those of split ``val`` choose the best weights.
        volumes: Folder of their stores.
        patches: The patch store.
        checkpoints: Folder for weights, state and log.
        progress: Told of steps.

    Returns:
        The card of the best weights.

    Raises:
        TrainingError: Training ended early; the last good checkpoint stands.
    """
    task = plan_train(
        plan,
        settings,
        manifest=manifest,
        volumes=volumes,
        patches=patches,
        checkpoints=checkpoints,
    )
    finished = checkpoints / "train.json"
    stands = read_json(finished) if finished.exists() else {}
    if stands.get("key") == digest(task.key, task.limits):
        try:
            _, card = load_model(checkpoints / "best.pt")
            if card.model_id == stands["model_id"]:
                _finish(card, task, manifest, progress)
                progress(STAGE, 1, 1, "up to date")
                return card
        except ModelError as error:
            progress(STAGE, 0, 1, f"training anew: {error}")
        (checkpoints / "last.pt").unlink(missing_ok=True)  # the weights are gone
    checkpoints.mkdir(parents=True, exist_ok=True)
    processes = settings.processes or _sharers(
        plan.batch_size // settings.accumulate, torch.cuda.device_count()
    )
    if plan.batch_size % (processes * settings.accumulate):
        raise TrainingError(
            f"a batch of {plan.batch_size} patches cannot be shared by {processes} processes in "
            f"{settings.accumulate} parts each: set plan.batch_size to a multiple of "
            "train.processes times train.accumulate"
        )
    finished.unlink(missing_ok=True)  # the weights will soon be others
    hear = _listener(progress, plan.score_name)
    launch("pipeline.training.rank", task_to_json(task), processes, hear)
    card = read_card(checkpoints / "best.pt")
    _finish(card, task, manifest, progress)
    return card


def _finish(card: ModelCard, task: TrainTask, manifest: Path, progress: Progress) -> None:
    """Write the model's bundle, and that the training is done."""
    facts = {"key": digest(task.key, task.limits), "model_id": card.model_id, **card.training}
    if task.settings.start_from is not None:
        facts["started_from"] = _start_sha256(task.settings.start_from, task.checkpoints)
    if not (task.checkpoints / "train.json").exists():
        write_json(task.checkpoints / "train.json", facts)  # whatever becomes of the bundle
    if task.settings.bundle:
        facts["no_bundle"] = try_bundle(task.checkpoints, manifest)
        if facts["no_bundle"]:
            progress(STAGE, 1, 1, f"no MONAI bundle: {facts['no_bundle']}")
    else:
        remove_tree(task.checkpoints / "bundle")  # it may be of earlier weights
    write_json(task.checkpoints / "train.json", facts)


def _start_sha256(path: Path, checkpoints: Path) -> str:
    """The digest of the weights to begin with; of a finished training, also when they are gone.

    Raises:
        TrainingError: They are this training's own.
        ModelError: There is no such model.
    """
    if path.resolve() == (checkpoints / "best.pt").resolve():
        raise TrainingError(
            "train.start_from is this run's own model: leave it out, and raise train.max_minutes "
            "or train.max_steps to go on"
        )
    finished = checkpoints / "train.json"
    if not path.exists() and finished.exists():
        known = read_json(finished).get("started_from")
        if known is not None:
            return str(known)
    return read_card(path).weights_sha256


def _sharers(batch_size: int, devices: int) -> int:
    """The most processes, one per device, among which a batch can be dealt evenly."""
    return max(n for n in range(1, max(1, devices) + 1) if batch_size % n == 0)


def _listener(progress: Progress, score_name: str) -> Callable[[dict[str, Any]], None]:
    """Turns the messages of the first process into progress."""
    last = {"step": 0, "total": 0, "val": ""}

    def hear(message: dict[str, Any]) -> None:
        if message.get("event") == "validation" and message["score"] is not None:
            last["val"] = f", validation {score_name} {message['score']:.4f}"
        if message.get("event") != "step":
            return
        speed = message["patches_per_s"]
        pace = "" if speed is None else f", {speed:.1f} patches/s"
        left = "" if message["left_s"] is None else f", {message['left_s'] / 60:.1f} min left"
        note = f"loss {message['loss']:.3f}{last['val']}{pace}{left}"
        progress(STAGE, message["step"], message["total"], note)

    return hear
