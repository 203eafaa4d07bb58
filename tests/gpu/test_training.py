"""Training where there is a GPU: by the command that users give, and by the loop itself."""

from dataclasses import replace

import pytest
import torch

from pipeline.io.files import read_jsonl
from pipeline.model_file import load_model
from pipeline.processor import best_processor, forward
from pipeline.training import train
from pipeline.training.loop import train_rank
from tests.trained import small_plan
from tests.training.small import ALONE, places, recipe, tensors, the_task

pytestmark = pytest.mark.gpu


def on_the_gpu(run, name, precision="auto", **changes):
    """Train in this process, on the GPU."""
    task = the_task(small_plan(3), recipe(**changes), **places(run, name))
    train_rank(task, replace(ALONE, device="cuda:0"), best_processor(3, "cuda:0", precision))
    return run / name


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_loss_falls_in_every_number_format(run, precision):
    folder = on_the_gpu(run, precision, precision, max_steps=60, validations=1)
    losses = [r["loss"] for r in read_jsonl(folder / "log.jsonl") if r["kind"] == "train"]
    assert losses[-1] < losses[0]


def test_an_interrupted_training_goes_on_from_its_checkpoint(run):
    on_the_gpu(run, "once", max_steps=4, schedule={"kind": "constant"})
    folder = on_the_gpu(run, "once", max_steps=8, schedule={"kind": "constant"})
    assert tensors(folder / "last.pt")["position"] == 8 * 2


def test_patches_may_be_augmented_there(run):
    for workers in (0, 2):
        name = f"device{workers}"
        on_the_gpu(run, name, augment_on="device", loader_workers=workers, augmentation=2)
        score = read_jsonl(run / name / "log.jsonl")[-1]["score"]
        assert 0 <= score <= 1


def test_what_it_learnt_is_the_same_network_on_the_cpu(run):
    folder = on_the_gpu(run, "both", "float32")
    network, _ = load_model(folder / "best.pt")
    batch = torch.randn(1, 1, 16, 16, 16).numpy()
    logits = [
        forward(processor.place(network, 3), batch, processor).cpu()
        for processor in (best_processor(3, device, "float32") for device in ("cpu", "cuda"))
    ]
    assert torch.allclose(*logits, atol=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_processes_talk_over_nccl(run):
    train(small_plan(3), recipe(processes=2), **places(run, "two"))
    train(small_plan(3), recipe(processes=1, accumulate=2), **places(run, "parts"))
    one, other = (tensors(run / name / "last.pt")["model"] for name in ("two", "parts"))
    assert all(torch.allclose(one[k].float(), other[k].float(), atol=1e-3) for k in one)


def test_the_command_trains_on_every_gpu(run):
    train(small_plan(3), recipe(), **places(run, "all"))
    found = tensors(run / "all/last.pt")
    assert found["position"] == 8 * 2
    assert all(values.isfinite().all() for values in found["model"].values())
