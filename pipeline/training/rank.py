"""What ``torch.distributed.run`` starts: one process of a training.

python -m torch.distributed.run --nproc-per-node=2 -m pipeline.training.rank job.json
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from pipeline.plan_file import Plan
from pipeline.processor import best_processor
from pipeline.tiled import Tiling
from pipeline.training.distributed import joined
from pipeline.training.loop import TrainTask, train_rank
from pipeline.training.settings import TrainSettings
from pipeline.training.tether import die_with_parent, show_signs_of_life


def task_to_json(task: TrainTask) -> dict[str, Any]:
    """A task as JSON values."""
    return {
        "key": task.key,
        "limits": task.limits,
        "plan": task.plan.model_dump(mode="json"),
        "settings": task.settings.model_dump(mode="json"),
        "patches": str(task.patches),
        "validation": [str(path) for path in task.validation],
        "checkpoints": str(task.checkpoints),
        "tiling": asdict(task.tiling),
        "left_out": list(task.left_out),
    }


def task_from_json(value: dict[str, Any]) -> TrainTask:
    """The task that ``task_to_json`` wrote."""
    tiling = {k: tuple(v) if isinstance(v, list) else v for k, v in value["tiling"].items()}
    return TrainTask(
        key=value["key"],
        limits=value["limits"],
        plan=Plan.model_validate(value["plan"]),
        settings=TrainSettings.model_validate(value["settings"]),
        patches=Path(value["patches"]),
        validation=tuple(Path(path) for path in value["validation"]),
        checkpoints=Path(value["checkpoints"]),
        tiling=Tiling(**tiling),  # type: ignore[arg-type]
        left_out=tuple(value["left_out"]),
    )


@record
def main() -> None:
    """Train as the job's file says."""
    die_with_parent()
    show_signs_of_life()
    task = task_from_json(json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    processor = best_processor(task.plan.ndim, precision=task.settings.precision)
    with joined(processor.device, task.settings.timeout_minutes) as ranks:
        train_rank(task, ranks, replace(processor, device=ranks.device))


if __name__ == "__main__":
    main()
