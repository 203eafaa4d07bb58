"""Do two ranks learn what one rank learns in two parts?

In float64 they must: what is left there would be a difference of method. In float32 and below the
order of sums differs with the threads of a rank, and every step multiplies what that does.

As a module, this is what ``torch.distributed.run`` starts: a rank that logs every step.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.io.files import read_jsonl
from pipeline.processor import Processor, best_processor
from pipeline.training import log, loop, rank
from pipeline.training.distributed import launch
from tests.bench.training_run import BenchedRun

GOAL = 1e-3
"""The largest relative difference between two losses of the same step."""
RANKS = 2
EXACT = "SEGFLOW_BENCH_FLOAT64"
"""Set for processes that compute in float64, for which there is no setting."""


def losses(run: BenchedRun, folder: Path, processes: int, **changes: Any) -> np.ndarray:
    """Losses of a training, step by step."""
    batch = -(-run.plan.batch_size // RANKS) * RANKS
    plan = run.plan.model_copy(update={"batch_size": batch})
    task = run.task(folder, plan, **changes)
    launch("tests.bench.training_ranks", rank.task_to_json(task), processes, lambda message: None)
    rows = [row for row in read_jsonl(folder / "log.jsonl") if row["kind"] == "train"]
    if [row["step"] for row in rows] != list(range(1, len(rows) + 1)):
        raise RuntimeError(f"{folder}/log.jsonl does not hold every step: the log has changed")
    return np.array([row["loss"] for row in rows])


def ranks(run: BenchedRun, scratch: Path, steps: int) -> dict[str, Any]:
    """Losses of two ranks against those of one rank that takes its batch in two parts."""
    own = best_processor(run.plan.ndim, precision=run.settings.train.precision).precision
    limits = {"max_minutes": None, "max_epochs": None, "max_steps": steps, "validations": 1}
    table: dict[str, Any] = {"steps": steps, "goal": GOAL}
    for precision in dict.fromkeys(("float64", "float32", own)):
        exact = precision == "float64"
        os.environ[EXACT] = str(int(exact))
        common = {**limits, "precision": "float32" if exact else precision}
        one = losses(run, scratch / f"one-{precision}", 1, **common, accumulate=RANKS)
        two = losses(run, scratch / f"two-{precision}", RANKS, **common, accumulate=1)
        apart = np.abs(two - one) / np.abs(one)
        table[precision] = {
            "largest_relative_difference": float(f"{apart.max():.3g}"),
            "at_step": int(apart.argmax()) + 1,
            "met": bool(apart.max() <= GOAL),
            "first_loss": round(float(one[0]), 4),
            "last_loss": round(float(one[-1]), 4),
        }
    return table


def compute_in_float64() -> None:
    """Make what is float32, networks, images and logits, float64."""
    network, tensor = loop._network, Processor.tensor
    loop._network = lambda *given: network(*given).double()
    Processor.tensor = lambda *given: tensor(*given).double()  # type: ignore[method-assign]
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]


if __name__ == "__main__":
    log.LOG_STEPS = 1
    if os.environ.get(EXACT) == "1":
        compute_in_float64()
    rank.main()
