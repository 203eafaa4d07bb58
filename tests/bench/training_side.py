"""Our training loop as a side of a comparison: ``train_rank`` itself, fed in blocks.

python -m tests.bench.training_side job.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch

from pipeline.processor import best_processor
from pipeline.training import loop
from pipeline.training.distributed import joined
from pipeline.training.rank import task_from_json


class EndOfOrdersError(Exception):
    """Nobody wants more steps."""


def paced(real: Iterator[Any], parts: int) -> Iterator[Any]:
    """Batches of a loader, or one step's again and again, as the orders on standard input say.

    Whoever asks for a step's first batch has ended the step before: the time between is a step's,
    the wait for its batches included.

    Args:
        real: The loader.
        parts: Batches of a step.
    """
    repeated = list(islice(real, parts))
    for line in sys.stdin:
        order = json.loads(line)
        stamps = []
        for _ in range(order["steps"]):
            stamps.append(time.perf_counter())
            for part in range(parts):
                yield next(real) if order["feed"] == "loader" else repeated[part]
        stamps.append(time.perf_counter())
        print(json.dumps({"seconds": [b - a for a, b in pairwise(stamps)]}), flush=True)
    raise EndOfOrdersError


def main() -> None:
    """Train as the job's file says, as ``pipeline.training.rank`` does, at the orders' pace."""
    task = task_from_json(json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    processor = best_processor(task.plan.ndim, precision=task.settings.precision)
    own = loop._loader

    def loader(*given: Any) -> Iterator[Any]:
        return paced(own(*given), task.settings.accumulate)

    loop._loader = loader  # the one place at which the loop can be slowed down and timed
    with joined(processor.device, task.settings.timeout_minutes) as ranks:
        try:
            loop.train_rank(task, ranks, replace(processor, device=ranks.device))
        except EndOfOrdersError:
            return


if __name__ == "__main__":
    main()
