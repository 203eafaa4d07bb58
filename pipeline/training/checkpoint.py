"""The state of a training: everything a resumed one needs to go on as if never stopped."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from models import Network
from pipeline.errors import ModelError
from pipeline.model_file import read_tensors, save_tensors

STATE = {
    *("key", "limits", "model", "average", "optimizer", "scaler", "position", "total_steps"),
    *("elapsed_s", "best_score", "best_step", "stale", "extended_at"),
}
"""What a saved state holds."""


@dataclass
class TrainingState:
    """Network, running mean, optimizer, and where on the clock they stand."""

    key: str
    """Of patches, plan and settings, but for the training's length: a state of another key is not
    gone on with."""
    limits: dict[str, Any]
    """When training ends: a state of other limits is gone on with to the new ones."""
    model: Network
    """The network being trained, not wrapped for distribution."""
    average: Network
    """Running mean of its weights: the model that is delivered."""
    optimizer: Optimizer
    """Its optimizer."""
    scaler: GradScaler
    """Keeps float16 gradients from vanishing; at rest in other formats."""
    position: int = 0
    """Patches seen: the clock."""
    total_steps: int | None = None
    """Steps this training will take; None while their number is being measured."""
    elapsed_s: float = 0.0
    """Seconds trained before this process started."""
    best_score: float | None = None
    """Highest validation score so far; None before the first validation that gave one."""
    best_step: int = 0
    """The step of the best weights; 0: none are stored yet."""
    stale: int = 0
    """Validations in a row that were no better than the best."""
    extended_at: tuple[int, ...] = ()
    """Positions at which this training was given other limits."""

    @classmethod
    def fresh(
        cls,
        key: str,
        limits: dict[str, Any],
        model: Network,
        optimizer: Optimizer,
        scaler: GradScaler,
    ) -> TrainingState:
        """The state before the first step."""
        average = deepcopy(model).eval().requires_grad_(False)
        return cls(key, limits, model, average, optimizer, scaler)

    def save(self, path: Path) -> None:
        """Write the state, atomically; without room for it the former one stays."""
        for left in path.parent.glob(f".{path.name}.*.partial"):
            left.unlink()  # of a process that was killed while it wrote
        value = {
            "key": self.key,
            "limits": self.limits,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": self.position,
            "total_steps": self.total_steps,
            "elapsed_s": self.elapsed_s,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "stale": self.stale,
            "extended_at": list(self.extended_at),
        }
        save_tensors(path, value)

    def restore(self, path: Path, batch_size: int) -> bool:
        """Take over a saved state of the same key; False where there is none.

        A state of other limits is gone on with. One that is past a limit that has been lowered is
        no beginning of a training by it, and is left alone; one that has reached a limit that has
        not been is at its end.

        Args:
            path: The saved state.
            batch_size: Patches per step.

        Raises:
            ModelError: The file is damaged, no state of a training, or of another network.
        """
        if not path.exists():
            return False
        value = read_tensors(path)
        if not isinstance(value, dict) or STATE - value.keys():
            raise ModelError(
                f"{path} is no state of a training: put back the one that belongs there, or delete "
                "it to train anew; weights to begin with are named in train.start_from"
            )
        if value["key"] != self.key:
            return False
        same = value["limits"] == self.limits
        done = {
            "max_steps": value["position"] // batch_size,
            "max_minutes": value["elapsed_s"] / 60,
        }
        reached = [n for n in done if self.limits[n] is not None and done[n] >= self.limits[n]]
        if not same and any(self.limits[n] < (value["limits"][n] or inf) for n in reached):
            return False
        self._take_over(value, path)
        self.position = value["position"]
        self.elapsed_s = value["elapsed_s"]
        self.best_score = value["best_score"]
        self.best_step = value["best_step"]
        self.extended_at = tuple(value["extended_at"])
        if same:
            self.total_steps = value["total_steps"]
            self.stale = value["stale"]
        elif reached:
            self.total_steps = done["max_steps"]
        else:
            self.extended_at += (self.position,)
            self.total_steps = self._extended(done["max_steps"])
        return True

    def _take_over(self, value: dict[str, Any], path: Path) -> None:
        """Load weights and what belongs to them."""
        try:
            self.model.load_state_dict(value["model"])
            self.average.load_state_dict(value["average"])
            self.optimizer.load_state_dict(value["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{path} is of another network: put back the one that belongs there, or delete it "
                "to train anew"
            ) from error
        self.scaler.load_state_dict(value["scaler"])

    def _extended(self, step: int) -> int:
        """Steps to the new limits, at the pace so far."""
        fitting: int | None = self.limits["max_steps"]
        if self.limits["max_minutes"] is not None:
            by_time = max(step + 1, int(step * self.limits["max_minutes"] * 60 / self.elapsed_s))
            fitting = by_time if fitting is None else min(by_time, fitting)
        assert fitting is not None  # settings have one of the two
        return fitting

    def improved(self, score: float | None, step: int) -> bool:
        """Take note of a validation; whether its weights are the ones to keep.

        Without validation cases there is no score, and the latest weights are kept. Weights as
        good as the best are kept too, but for patience they are no progress.
        """
        if score is None or self.best_score is None or score > self.best_score:
            self.stale = 0
        else:
            self.stale += 1
            if score < self.best_score:
                return False
        self.best_score, self.best_step = score, step
        return True

    @torch.no_grad()
    def update_average(self, step: int, decay: float) -> None:
        """Move the running mean towards the weights; faster in the first steps."""
        share = 1 - min(decay, (1 + step) / (10 + step))
        means, values = self.average.state_dict(), self.model.state_dict()
        floating = [name for name, value in values.items() if value.is_floating_point()]
        torch._foreach_lerp_([means[n] for n in floating], [values[n] for n in floating], share)
        for name in values.keys() - set(floating):
            means[name].copy_(values[name])
