"""The training loop, on one page."""

from __future__ import annotations

import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from models import Network, build_model, load_pretrained
from models.optimisers import build_optimiser
from pipeline.errors import TrainingError
from pipeline.io.patch_store import PatchStore
from pipeline.model_file import save_model
from pipeline.plan_file import Plan
from pipeline.processor import Processor
from pipeline.tiled import Tiling
from pipeline.training.checkpoint import TrainingState
from pipeline.training.dataset import (
    Batches,
    PatchDataset,
    PositionSampler,
    augmented,
    batches,
    loader_workers,
)
from pipeline.training.distributed import Ranks
from pipeline.training.fine_tuning import start_from
from pipeline.training.log import TrainingLog
from pipeline.training.loss import PlannedLoss
from pipeline.training.schedule import Budget, learning_rate_share
from pipeline.training.settings import TrainSettings
from pipeline.training.transforms import Augment
from pipeline.training.validate import validate

LEAST_SCALE = 1e-4
"""Scaled by so little, float16 gradients have overflowed in dozens of steps running."""
GRADIENT_NORM = 12.0
"""Gradients are clipped to this norm, as nnU-Net does."""
STOPPED = "training was told to stop; run the same command again to go on"


@dataclass(frozen=True)
class TrainTask:
    """One training, as every process of it receives it."""

    key: str
    """Of patches, plan and recipe."""
    limits: dict[str, Any]
    """When training ends; a change of them alone is no other training."""
    plan: Plan
    """Network, batch, classes."""
    settings: TrainSettings
    """The recipe."""
    patches: Path
    """The patch store."""
    validation: tuple[Path, ...]
    """Volume stores of the validation cases."""
    checkpoints: Path
    """Folder for ``last.pt``, ``best.pt`` and the log."""
    tiling: Tiling
    """How validation cases are predicted."""
    left_out: tuple[str, ...] = ()
    """Cases whose patches are not trained on: those of the fold that judges."""


def train_rank(task: TrainTask, ranks: Ranks, processor: Processor) -> None:
    """Train: the work of one process.

    Raises:
        TrainingError: The loss is not a number, or training was told to stop.
        ModelError: The weights to start from are of another network.
    """
    plan, settings = task.plan, task.settings
    torch.manual_seed(settings.seed)
    model = processor.place(_network(plan, settings), plan.ndim).train()
    optimizer = build_optimiser(settings.optimiser, model.parameters())
    scaler = GradScaler(processor.device, enabled=processor.precision == "float16")
    state = TrainingState.fresh(task.key, task.limits, model, optimizer, scaler)
    goes_on = state.restore(task.checkpoints / "last.pt", plan.batch_size)
    wrapped = ranks.wrap(model)  # once all have looked at the state
    if ranks.first and not goes_on:
        # Of another training, whose weights this one will soon replace.
        (task.checkpoints / "last.pt").unlink(missing_ok=True)
    if settings.compile:
        torch._dynamo.config.suppress_errors = True
        model.compile()
    loss_of = PlannedLoss(plan)
    budget = Budget(settings, state.total_steps, state.elapsed_s)
    log = TrainingLog(
        task.checkpoints / "log.jsonl",
        state.position,
        plan.batch_size,
        ranks.first,
        settings.tensorboard,
    )
    stop = StopSignal()
    step = state.position // plan.batch_size

    with closing(_loader(task, state.position, ranks, processor)) as loader:
        while budget.total_steps is None or step < budget.total_steps:
            # The gradient, a mean over the parts of a batch, here and in all processes. Patches,
            # their augmentation, dropout and the rate follow from the position.
            share = learning_rate_share(step, budget.total_steps, settings)
            rate = share * settings.optimiser.learning_rate
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            total, met = torch.zeros((), device=ranks.device), []
            for part in range(settings.accumulate):
                with log.waiting():
                    batch = next(loader)  # image (b, C, *S), label (b, *S), number (b,)
                torch.manual_seed(settings.seed + state.position + ranks.rank + part * ranks.count)
                with ranks.gathering(wrapped, last=part == settings.accumulate - 1):
                    image = processor.tensor(batch["image"])
                    with processor.autocast():
                        logits = wrapped(image)  # (b, C, *S) -> (b, K, *S)
                    loss = loss_of(logits, batch) / settings.accumulate
                    met.append(batch["number"])
                    _refuse_not_finite("loss", loss, batch["number"], task.patches)
                    scaler.scale(loss).backward()
                total += loss.detach()

            # An update.
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            if not scaler.is_enabled():  # it leaves out steps of float16 that overflow, by itself
                _refuse_not_finite("gradient", norm, torch.cat(met), task.patches)
            scaler.step(optimizer)
            scaler.update()
            _refuse_overflow(scaler)
            step += 1
            state.position += plan.batch_size
            state.update_average(step, settings.ema_decay)
            budget.stepped(step, ranks)
            log.train(step, state.position, float(ranks.mean(total)), rate, budget)

            # Whole held-out cases, and the best weights so far.
            if budget.validation_due(step):
                with budget.validating(step, ranks):
                    found = validate(
                        state.average, task.validation, plan, task.tiling, processor, ranks
                    )
                log.validation(step, state.position, found)
                if state.improved(found["score"], step) and ranks.first:
                    facts = {"steps": step, "position": state.position, "val_score": found["score"]}
                    facts["mirrored"] = settings.mirrors(plan.ndim)
                    if state.extended_at:
                        facts["extended_at"] = list(state.extended_at)
                    save_model(
                        task.checkpoints / "best.pt", state.average.state_dict(), plan, facts
                    )
                if settings.patience is not None and state.stale >= settings.patience:
                    budget.total_steps = step  # no progress for long enough: it was the last
            stopping = bool(ranks.agree(int(stop.asked)))
            if ranks.first and (stopping or budget.checkpoint_due(step)):
                state.total_steps, state.elapsed_s = budget.total_steps, budget.elapsed_s
                state.save(task.checkpoints / "last.pt")
            if stopping:
                raise TrainingError(STOPPED)


def _network(plan: Plan, settings: TrainSettings) -> Network:
    """The network at its start: drawn at random, with a trained backbone, or from another run."""
    network = build_model(plan.network)
    load_pretrained(network)
    if settings.start_from is not None:
        start_from(network, plan, settings.start_from)
    return network


def _loader(task: TrainTask, position: int, ranks: Ranks, processor: Processor) -> Batches:
    plan, settings = task.plan, task.settings
    augment = Augment.planned(plan, settings)
    on_device = settings.augment_on == "device"
    dataset = PatchDataset(
        task.patches, None if on_device else augment, settings.seed, task.left_out
    )
    sampler = PositionSampler(
        position, plan.batch_size, ranks.rank, ranks.count, settings.accumulate
    )
    cores = torch.get_num_threads()
    loader = batches(
        dataset,
        sampler,
        workers=loader_workers(settings.loader_workers, processor.device, cores),
        timeout_minutes=settings.timeout_minutes,
        pin=processor.device != "cpu",
    )
    return augmented(loader, augment, ranks.device) if on_device else loader


def _refuse_not_finite(what: str, value: Tensor, numbers: Tensor, patches: Path) -> None:
    if torch.isfinite(value):
        return
    cases = PatchStore(patches).attributes["cases"]
    met = ", ".join(sorted({cases[int(n)] for n in numbers}))
    raise TrainingError(
        f"the {what} is not a number on a batch of {met}: look at these cases, or lower "
        "train.optimiser.learning_rate; the last good checkpoint stands"
    )


def _refuse_overflow(scaler: GradScaler) -> None:
    if scaler.is_enabled() and scaler.get_scale() < LEAST_SCALE:
        raise TrainingError(
            "float16 overflows at every step: set train.precision to bfloat16 or float32, or lower "
            "train.optimiser.learning_rate"
        )


class StopSignal:
    """Hears SIGTERM, so that a cancelled training ends after its step with a checkpoint."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, *_: Any) -> None:
        self.asked = True
