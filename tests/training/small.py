"""A training small enough to run in the tests' own process."""

import torch

from pipeline.execute import ExecuteSettings
from pipeline.patches import PatchSettings, patch
from pipeline.processor import Processor
from pipeline.training import TrainSettings
from pipeline.training.distributed import Ranks
from pipeline.training.loop import train_rank
from pipeline.training.tasks import plan_train
from tests.trained import small_plan

ALONE = Ranks(0, 1, "cpu")
CPU = Processor("cpu", "float32", channels_last=True)


def cut(folder, plan=None, **settings):
    """Cut the patches of an ingested folder."""
    return patch(
        plan or small_plan(3),
        PatchSettings(**settings),
        ExecuteSettings(on="serial"),
        manifest=folder / "manifest.jsonl",
        volumes=folder / "volumes",
        final=folder / "patches.zarr",
        ledger=folder / "patch.jsonl",
    )


def places(run, name="checkpoints"):
    return {
        "manifest": run / "manifest.jsonl",
        "volumes": run / "volumes",
        "patches": run / "patches.zarr",
        "checkpoints": run / name,
    }


def recipe(**changes):
    fields = {"max_minutes": None, "max_steps": 8, "validations": 2, "loader_workers": 0}
    return TrainSettings(**(fields | changes))


def the_task(plan, settings, **places):
    (task,) = plan_train(plan, settings, **places)
    return task


def alone(run, settings, name, plan=None, processor=CPU):
    """Train in this process; give what last.pt holds."""
    train_rank(the_task(plan or small_plan(3), settings, **places(run, name)), ALONE, processor)
    return tensors(run / name / "last.pt")


def tensors(path):
    return torch.load(path, weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
