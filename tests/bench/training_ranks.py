"""Do two ranks learn what one rank learns in two parts?

As a module, this is what ``torch.distributed.run`` starts: a rank that logs every step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.io.files import read_jsonl
from pipeline.tiled import best_processor
from pipeline.training import log, rank
from pipeline.training.distributed import launch
from tests.bench.training_run import BenchedRun

GOAL = 1e-3
"""The largest relative difference between two losses of the same step."""
RANKS = 2


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
    for precision in dict.fromkeys(("float32", own)):
        common = {**limits, "precision": precision}
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


if __name__ == "__main__":
    log.LOG_STEPS = 1
    rank.main()
