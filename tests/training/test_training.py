import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.io.files import read_jsonl
from pipeline.io.patch_store import PatchStore
from pipeline.model_file import load_model, read_card
from pipeline.training import train
from pipeline.training.dataset import (
    MOST_WORKERS,
    HeldPatches,
    PatchDataset,
    PositionSampler,
    loader_workers,
)
from pipeline.training.distributed import launch
from pipeline.training.loop import StopSignal, _refuse_not_finite, train_rank
from pipeline.training.transforms import Augment
from tests.trained import small_plan
from tests.training.small import ALONE, CPU, alone, places, recipe, same, tensors, the_task


class Interrupted(Exception):
    """Stands for whatever ends a process between two steps."""


def test_an_interrupted_training_ends_with_the_same_weights_bit_for_bit(run, monkeypatch):
    settings = recipe(checkpoint_minutes=1e-9)  # a checkpoint after every step
    whole = the_task(small_plan(3), settings, **places(run, "whole"))
    train_rank(whole, ALONE, CPU)

    broken = the_task(small_plan(3), settings, **places(run, "broken"))
    average = "pipeline.training.checkpoint.TrainingState.update_average"
    original = __import__(
        "pipeline.training.checkpoint", fromlist=["x"]
    ).TrainingState.update_average

    def stops_at_fifth(self, step, decay):
        if step == 5:
            raise Interrupted
        original(self, step, decay)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(average, stops_at_fifth)
        train_rank(broken, ALONE, CPU)
    assert tensors(run / "broken/last.pt")["position"] == 4 * 2
    train_rank(broken, ALONE, CPU)
    assert same(tensors(run / "broken/best.pt"), tensors(run / "whole/best.pt"))
    assert same(tensors(run / "broken/last.pt")["model"], tensors(run / "whole/last.pt")["model"])
    assert read_card(run / "broken/best.pt") == read_card(run / "whole/best.pt")
    steps = [r["step"] for r in read_jsonl(run / "broken/log.jsonl")]
    assert steps == [r["step"] for r in read_jsonl(run / "whole/log.jsonl")] == [4, 8, 8]


def test_loader_processes_do_not_change_what_is_learnt(run):
    # Each training in processes of its own, as ever: loaders forked from a process in which
    # Prefect has served flows end with an error, for it cannot end a second time in them.
    for name, workers, place in [("alone", 0, "workers"), ("a", 2, "workers"), ("b", 1, "device")]:
        settings = recipe(loader_workers=workers, augment_on=place, augmentation=2, mirror="all")
        train(small_plan(3), settings, **places(run, name))
    first, *others = (tensors(run / name / "best.pt") for name in ("alone", "a", "b"))
    assert all(same(first, other) for other in others)


def test_patches_that_stay_in_memory_are_those_of_the_store(run):
    store = PatchStore(run / "patches.zarr")
    size = store.read(0).image.nbytes + store.read(0).label.nbytes
    held = HeldPatches(run / "patches.zarr", 2 * size)
    for number in [3, 1, 2, 3, 1, 2, 0]:
        patch = held.read(number)
        assert np.array_equal(patch.image, store.read(number).image)
        assert np.array_equal(patch.label, store.read(number).label)
    assert held.read(3) is held.read(3) and held.read(1) is held.read(1)
    assert held.read(2) is not held.read(2)


def test_patches_augmented_where_the_network_learns_are_the_same(run):
    for place in ("workers", "device"):
        alone(run, recipe(augment_on=place, augmentation=2, mirror="all"), place)
    one, other = (tensors(run / place / "last.pt") for place in ("workers", "device"))
    assert same(one["model"], other["model"])


def test_a_network_on_the_cores_leaves_them_to_itself():
    assert loader_workers(None, "cpu", 16) == 1
    assert [loader_workers(None, "cuda", cores) for cores in (1, 4, 64)] == [1, 3, MOST_WORKERS]
    assert loader_workers(0, "cuda", 16) == 0


def test_two_processes_train_together_and_a_finished_training_is_found(run):
    told = []
    card = train(
        small_plan(3),
        recipe(processes=2),
        **places(run),
        progress=lambda stage, done, total, note: told.append(note),
    )
    network, stored = load_model(run / "checkpoints/best.pt")
    assert stored.model_id == card.model_id
    assert network.settings == small_plan(3).network
    assert json.loads((run / "checkpoints/train.json").read_text())["model_id"] == card.model_id
    assert json.loads((run / "checkpoints/train.json").read_text())["no_bundle"] is None
    assert (run / "checkpoints/bundle/models/model.ts").exists()
    before = (run / "checkpoints/best.pt").stat().st_mtime_ns
    again = train(
        small_plan(3),
        recipe(processes=2, bundle=False),
        **places(run),
        progress=lambda stage, done, total, note: told.append(note),
    )
    assert again == card
    assert (run / "checkpoints/best.pt").stat().st_mtime_ns == before
    assert told[-1] == "up to date"
    assert not (run / "checkpoints/bundle").exists()


def test_a_batch_that_processes_cannot_share_is_a_sentence(run):
    with pytest.raises(TrainingError, match=r"multiple of train\.processes"):
        train(small_plan(3), recipe(processes=3), **places(run))


def test_an_error_in_a_process_is_the_error_of_the_training(tmp_path):
    with pytest.raises(TrainingError, match="absent"):
        launch("tests.training.failing_rank", {}, 1, lambda message: None)


def test_a_loss_that_is_no_number_names_its_cases(run):
    names = json.loads((run / "patches.zarr/zarr.json").read_text())["attributes"]["segflow"][
        "cases"
    ]
    with pytest.raises(
        TrainingError, match=rf"a batch of {names[0]}: .*train\.optimiser\.learning_rate"
    ):
        nan = torch.tensor(float("nan"))
        _refuse_not_finite("loss", nan, torch.tensor([0]), run / "patches.zarr")


def test_sigterm_asks_for_an_end_after_the_step():
    import os
    import signal

    before = signal.getsignal(signal.SIGTERM)
    stop = StopSignal()
    os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert stop.asked


def test_processes_see_together_what_one_would_see():
    def first(ranks, batches=5):
        samplers = [iter(PositionSampler(6, 6, rank, ranks)) for rank in range(ranks)]
        return [sorted(p for s in samplers for p in next(s)) for _ in range(batches)]

    assert first(1) == first(2) == first(3) == [list(range(n, n + 6)) for n in range(6, 36, 6)]
    in_parts = iter(PositionSampler(6, 6, 0, 1, parts=2))
    assert [next(in_parts) for _ in range(2)] == [
        next(iter(PositionSampler(6, 6, rank, 2))) for rank in (0, 1)
    ]
    of_both = iter(PositionSampler(0, 8, 1, 2, parts=2))
    assert [next(of_both) for _ in range(3)] == [[1, 5], [3, 7], [9, 13]]


def test_every_pass_sees_every_patch_once_in_its_own_order(run):
    dataset = PatchDataset(run / "patches.zarr", Augment((16,) * 3, 0, False, 255), seed=3)
    n = len(dataset)
    passes = [[dataset[p]["number"] for p in range(turn * n, turn * n + n)] for turn in (0, 1)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(n))
    assert passes[0] != passes[1]


ENDS = """
import os, signal, sys
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path
from pipeline.training.dataset import PatchDataset, PositionSampler, batches
from pipeline.training.transforms import Augment
dataset = PatchDataset(Path(sys.argv[1]), Augment((16, 16, 16), 0.0, False, 255), 0)
with closing(batches(dataset, PositionSampler(0, 2, 0, 1), workers=1)) as loader:
    next(loader)
    (helper,) = active_children()
    os.kill(helper.pid, signal.SIGTERM)  # as the whole group is told to stop
    next(loader)
    assert helper.is_alive()
    raise RuntimeError("the loss is not a number")
"""


def test_an_error_ends_the_processes_that_prepare_patches(run):
    """They hear no SIGTERM: an interpreter that ends would wait for them."""
    command = [sys.executable, "-c", ENDS, str(run / "patches.zarr")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("RuntimeError: the loss is not a number")
