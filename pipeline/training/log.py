"""What training tells: rows for the learning curve on disk, and messages to who launched it.

``log.jsonl`` is what the report is made of; ``tensorboard/`` holds the same for TensorBoard.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard.writer import SummaryWriter

from pipeline.io.files import read_jsonl, write_jsonl
from pipeline.training.schedule import Budget
from pipeline.training.tether import tell

LOG_STEPS = 10
"""Steps that one row of the log sums up."""
PLACE = {"kind", "step", "position"}
"""What a row is of; the rest of it are figures."""
MESSAGE_S = 1.0
"""Seconds between two messages to the launcher."""


class TrainingLog:
    """Writes ``log.jsonl`` and prints progress, in the first process; silent in the others.

    Args:
        path: The log; rows after ``position`` are of steps that will be taken again, and go.
        position: Where training goes on.
        batch_size: Patches per step.
        speaking: Whether this is the first process.
        board: Whether TensorBoard's files are written too, beside the log.
    """

    def __init__(
        self, path: Path, position: int, batch_size: int, speaking: bool, board: bool
    ) -> None:
        self._path = path
        self._batch_size = batch_size
        self._speaking = speaking
        self._losses: list[float] = []
        self._waited_s = 0.0
        self._since = self._spoken = time.monotonic()
        if speaking:
            write_jsonl(path, [row for row in read_jsonl(path) if row["position"] <= position])
        self._board: SummaryWriter | None = None
        if speaking and board:
            # Steps from here on will be taken again, those before stay.
            again = position // batch_size + 1
            self._board = SummaryWriter(path.with_name("tensorboard"), purge_step=again)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent here is time the network waits for patches."""
        asked = time.monotonic()
        yield
        self._waited_s += time.monotonic() - asked

    def train(self, step: int, position: int, loss: float, rate: float, budget: Budget) -> None:
        """Take note of a step; every tenth makes a row."""
        self._losses.append(loss)
        now = time.monotonic()
        if now - self._spoken > MESSAGE_S:
            self._spoken = now
            self._say(step, loss, budget)
        if step % LOG_STEPS and step != budget.total_steps:
            return
        spent_s = max(1e-9, now - self._since)
        self._append(
            {
                "kind": "train",
                "step": step,
                "position": position,
                "loss": sum(self._losses) / len(self._losses),
                "learning_rate": rate,
                "patches_per_s": len(self._losses) * self._batch_size / spent_s,
                "data_wait": min(1.0, self._waited_s / spent_s),
            }
        )
        self._losses, self._waited_s, self._since = [], 0.0, now

    def validation(self, step: int, position: int, found: dict[str, Any]) -> None:
        """Take note of a validation."""
        self._append({"kind": "val", "step": step, "position": position, **found})
        self._print({"event": "validation", "step": step, **found})
        self._since = time.monotonic()

    def _say(self, step: int, loss: float, budget: Budget) -> None:
        known = budget.total_steps is not None and budget.step_s > 0
        left = (budget.total_steps or 0) - step
        self._print(
            {
                "event": "step",
                "step": step,
                "total": budget.total_steps or 0,
                "loss": loss,
                "patches_per_s": self._batch_size / budget.step_s if budget.step_s else None,
                "left_s": left * budget.step_s if known else None,
            }
        )

    def _append(self, row: dict[str, Any]) -> None:
        if self._speaking:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if self._board is not None:
            figures = {f"{row['kind']}/{k}": row[k] for k in row.keys() - PLACE}
            figures |= {f"val/{name}": v for name, v in figures.pop("val/classes", {}).items()}
            for name, value in figures.items():
                if value is not None:
                    self._board.add_scalar(name, value, row["step"])
            self._board.flush()

    def _print(self, message: dict[str, Any]) -> None:
        if self._speaking:
            tell(message)
