"""Does the network wait for its patches? The real loop with its loader, and on one batch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.processor import best_processor
from pipeline.training.dataset import loader_workers
from pipeline.training.distributed import environment
from pipeline.training.loop import TrainTask
from pipeline.training.rank import task_to_json
from tests.bench.sides import Side, in_turns, ratio
from tests.bench.training_run import BenchedRun

GOAL = 1.05
"""A step with the real loader may take so much longer than one without."""


def our_side(task: TrainTask, job: Path) -> Side:
    """A process that trains as the task says, in blocks."""
    job.write_text(json.dumps(task_to_json(task)))
    return Side([sys.executable, "-m", "tests.bench.training_side", str(job)])


def loader(run: BenchedRun, scratch: Path, seconds: float, steps: int) -> dict[str, Any]:
    """Step time with the real loader against that on one repeated batch."""
    task = run.endless(scratch / "loader")
    with our_side(task, scratch / "loader.json") as side:
        feeds = {"loader": (side, "loader"), "repeated": (side, "repeated")}
        found = in_turns(feeds, steps, seconds)
    compared = ratio(found["loader"], found["repeated"])
    threads = int(environment(1)["OMP_NUM_THREADS"])
    asked = task.settings.loader_workers
    processor = best_processor(run.plan.ndim, precision=task.settings.precision)
    return {
        "step_s": {name: round(median(times), 4) for name, times in found.items()},
        **compared,
        "goal": GOAL,
        "met": compared["ratio"] <= GOAL,
        "rounds": len(found["loader"]),
        "steps_per_block": steps,
        "patches_per_s": round(run.plan.batch_size / median(found["loader"]), 2),
        "precision": processor.precision,
        "device": processor.device,
        "threads": threads,
        "loader_workers": loader_workers(asked, processor.device, threads),
    }
