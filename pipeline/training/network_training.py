"""One network trained: launched, gone on with, or found done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pipeline.errors import ModelError, TrainingError
from pipeline.execute import Progress
from pipeline.io.files import digest, read_json, write_json
from pipeline.model_file import ModelCard, load_model, read_card
from pipeline.training.distributed import Hosts, launch
from pipeline.training.loop import TrainTask
from pipeline.training.rank import task_to_json
from pipeline.training.tasks import start_sha256

STAGE = "train"


def finished_network(task: TrainTask, progress: Progress) -> ModelCard | None:
    """The card of a training that is done, its weights looked at; None where there is work."""
    finished = task.checkpoints / "train.json"
    stands = read_json(finished) if finished.exists() else {}
    if stands.get("key") != _key(task):
        return None
    try:
        _, card = load_model(task.checkpoints / "best.pt")
        if card.model_id == stands["model_id"]:
            return card
    except ModelError as error:
        progress(STAGE, 0, 1, f"training anew: {error}")
    (task.checkpoints / "last.pt").unlink(missing_ok=True)  # the weights are gone
    return None


def train_network(task: TrainTask, progress: Progress) -> ModelCard:
    """Train a network to its end, from where an earlier try stopped.

    Returns:
        The card of the best weights.

    Raises:
        TrainingError: Training ended early; the last good checkpoint stands.
    """
    plan, settings = task.plan, task.settings
    processes = settings.processes or _sharers(
        plan.batch_size // (settings.accumulate * settings.hosts), torch.cuda.device_count()
    )
    if plan.batch_size % (processes * settings.hosts * settings.accumulate):
        raise TrainingError(
            f"a batch of {plan.batch_size} patches cannot be shared by "
            f"{processes * settings.hosts} processes in {settings.accumulate} parts each: set "
            "plan.batch_size to a multiple of train.processes times train.hosts times "
            "train.accumulate"
        )
    task.checkpoints.mkdir(parents=True, exist_ok=True)
    finished = task.checkpoints / "train.json"
    if settings.host == 0:
        finished.unlink(missing_ok=True)  # the weights will soon be others
    else:
        progress(STAGE, 0, 1, f"takes part in the training that {settings.meet_at} shows")
    hear = _listener(progress, plan.score_name)
    hosts = Hosts(settings.hosts, settings.host, settings.meet_at or "")
    job = task_to_json(task)
    launch("pipeline.training.rank", job, processes, hear, settings.timeout_minutes, hosts)
    card = read_card(task.checkpoints / "best.pt")
    if settings.host:
        return card
    facts = {"key": _key(task), "model_id": card.model_id, **card.training}
    if settings.start_from is not None:
        facts["started_from"] = start_sha256(settings.start_from, task.checkpoints)
    write_json(finished, facts)
    return card


def _key(task: TrainTask) -> str:
    return digest(task.key, task.limits)


def _sharers(batch_size: int, devices: int) -> int:
    """The most processes, one per device, among which a batch can be dealt evenly."""
    return max(n for n in range(1, max(1, devices) + 1) if batch_size % n == 0)


def _listener(progress: Progress, score_name: str) -> Callable[[dict[str, Any]], None]:
    """Turns the messages of the first process into progress."""
    validated = ""

    def hear(message: dict[str, Any]) -> None:
        nonlocal validated
        if message.get("event") == "validation" and message["score"] is not None:
            validated = f", validation {score_name} {message['score']:.4f}"
        if message.get("event") != "step":
            return
        speed = message["patches_per_s"]
        pace = "" if speed is None else f", {speed:.1f} patches/s"
        left = "" if message["left_s"] is None else f", {message['left_s'] / 60:.1f} min left"
        note = f"loss {message['loss']:.3f}{validated}{pace}{left}"
        progress(STAGE, message["step"], message["total"], note)

    return hear
