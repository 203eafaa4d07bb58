"""Bad input to planning and training: each ends in a sentence, and the last good model stays."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from pipeline.errors import ModelError, NothingUsableError, TrainingError
from pipeline.model_file import load_model, save_tensors
from pipeline.planning import PlanSettings, plan
from pipeline.training import train
from pipeline.training.distributed import launch
from tests.trained import random_network, small_plan, write_model
from tests.training.small import alone, cut, places, recipe, tensors

SIGNS = """
import time
from pipeline.training import tether
tether.SIGN_S = 0.05
tether.show_signs_of_life()
time.sleep(1)
"""


@pytest.fixture
def run(make_msd, take_in, tmp_path):
    """Five ingested volumes and their patches."""
    take_in(make_msd(tmp_path / "data", cases=5, shape=(20, 24, 22)), tmp_path)
    cut(tmp_path)
    return tmp_path


def started(steps: int = 4, **changes):
    return recipe(**({"max_steps": steps, "bundle": False, "tensorboard": False} | changes))


def planned(data, folder: Path):
    return plan(
        data,
        PlanSettings(base_features=4, stages=2),
        manifest=folder / "manifest.jsonl",
        volumes=folder / "volumes",
        path=folder / "plan.json",
        processor="cpu",
    )


def process(marker: Path, rank: int) -> int:
    """The process of a rank of the training that was started with this marker."""
    wanted = {f"SEGFLOW_TEST={marker}".encode(), f"RANK={rank}".encode()}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no process has rank {rank}")


# Planning.


def test_a_class_that_no_training_case_has_is_named_in_the_plan(make_pairs, take_in, tmp_path):
    data = make_pairs(tmp_path / "data")
    rare = data.classes[0].model_copy(update={"name": "lake", "values": (9,)})
    data = data.model_copy(update={"classes": (*data.classes, rare)})
    take_in(data, tmp_path)
    said = planned(data, tmp_path).reasons["classes"]
    assert "no training case has a voxel of lake: " in said
    assert "leave it out of data.classes" in said


def test_cases_of_background_alone_are_nothing_to_learn_from(
    make_msd, take_in, write_scan, tmp_path
):
    data = make_msd(tmp_path / "data")
    for mask in (tmp_path / "data/labelsTr").iterdir():
        write_scan(mask, np.zeros((9, 11, 7), np.uint8))
    take_in(data, tmp_path)
    with pytest.raises(NothingUsableError, match=r"voxel of liver, tumour: .*data\.classes"):
        planned(data, tmp_path)


@pytest.mark.parametrize(("cases", "shape"), [(1, (3, 4, 2)), (3, (40, 3, 24))])
def test_few_cases_smaller_than_a_patch_are_learnt_from(make_msd, take_in, tmp_path, cases, shape):
    taken = take_in(make_msd(tmp_path / "data", cases=cases, shape=shape), tmp_path)
    splits = sorted(row.split for row in taken.rows.values())
    assert splits == (["train"] if cases == 1 else ["test", "train", "val"])
    cut(tmp_path)
    alone(tmp_path, started(), "checkpoints")
    _, card = load_model(tmp_path / "checkpoints/best.pt")
    assert (card.training["val_score"] is None) == (cases == 1)


# What happens to processes.


def test_patches_that_are_no_numbers_name_their_case_and_the_last_good_model_stays(run):
    train(small_plan(3), started(processes=2), **places(run))
    kept = {n: (run / "checkpoints" / n).read_bytes() for n in ("best.pt", "best.json", "last.pt")}
    store = zarr.open_group(run / "patches.zarr")
    store["image"][:] = np.nan
    cases = store.attrs["segflow"]["cases"]
    with pytest.raises(TrainingError, match=r"not a number on a batch of .*last good") as met:
        train(small_plan(3), started(8, processes=2), **places(run))
    assert any(case in str(met.value) for case in cases)
    assert kept == {n: (run / "checkpoints" / n).read_bytes() for n in kept}
    load_model(run / "checkpoints/best.pt")


def ends(run, monkeypatch, number, said, **changes):
    """Signal the second process of an endless training, and hear how it ends; its number."""
    monkeypatch.setenv("SEGFLOW_TEST", str(run))
    met = []

    def send(stage, done, total, note):
        if not met:
            met.append(process(run, rank=1))
            os.kill(met[0], number)

    endless = started(100_000, processes=2, checkpoint_minutes=1e-9, **changes)
    with pytest.raises(TrainingError, match=said):
        train(small_plan(3), endless, **places(run), progress=send)
    assert tensors(run / "checkpoints/last.pt")["position"] > 0
    return met[0]


def test_a_process_that_is_killed_ends_the_training_in_a_sentence(run, monkeypatch):
    assert ends(run, monkeypatch, signal.SIGKILL, r"ended by SIGKILL; .*the same command again")


@pytest.mark.slow  # torchrun gives a process that does not end 30 seconds
def test_a_process_that_hangs_ends_the_training_in_a_sentence(run, monkeypatch):
    said = r"waited 0\.25 minutes for another .*hangs"
    hung = ends(run, monkeypatch, signal.SIGSTOP, said, timeout_minutes=0.25)
    assert not Path(f"/proc/{hung}").exists()


def test_a_training_that_gives_no_sign_of_life_is_ended(monkeypatch):
    monkeypatch.setattr("pipeline.training.distributed.START_S", 5)
    with pytest.raises(TrainingError, match=r"not given a sign of life for 0\.1 minutes"):
        launch("tests.training.silent_rank", {}, 1, lambda message: None, timeout_minutes=1 / 60)


def test_a_busy_process_shows_that_it_lives():
    environment = os.environ | {"SEGFLOW_TETHER": "1"}
    said = subprocess.run(
        [sys.executable, "-c", SIGNS], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert [json.loads(line) for line in said.splitlines()][:3] == [{"event": "alive"}] * 3


# What happens to the disk.


@pytest.mark.slow  # as the next one, but on a real disk
def test_a_full_disk_leaves_the_last_good_checkpoint(run):
    disk = run / "checkpoints"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        train(small_plan(3), started(), **places(run))
        kept = {n: (disk / n).read_bytes() for n in ("best.pt", "best.json", "last.pt")}
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with pytest.raises(TrainingError, match=r"^the disk is full: make room, then run the same"):
            train(small_plan(3), started(8), **places(run))
        assert kept == {n: (disk / n).read_bytes() for n in kept}
        assert not list(disk.glob(".*.partial"))
        load_model(disk / "best.pt")
        filler.unlink()
        train(small_plan(3), started(8), **places(run))
        assert tensors(disk / "last.pt")["position"] == 8 * 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_files_that_may_not_become_large_leave_the_last_good_checkpoint(run):
    train(small_plan(3), started(), **places(run))
    disk = run / "checkpoints"
    kept = {n: (disk / n).read_bytes() for n in ("best.pt", "best.json", "last.pt")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept["best.json"]) + 4096, hard))
    try:
        with pytest.raises(TrainingError, match=r"^files may not become that large here"):
            train(small_plan(3), started(8), **places(run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept == {n: (disk / n).read_bytes() for n in kept}
    assert not list(disk.glob(".*.partial"))


# Checkpoints of others.


def test_a_state_that_cannot_be_gone_on_with_is_a_sentence_and_is_left_alone(run):
    state = alone(run, started(), "checkpoints")
    last, best = run / "checkpoints/last.pt", run / "checkpoints/best.pt"
    other = random_network(small_plan(3, channels=2)).state_dict()
    cases = {
        "no state of a training": best.read_bytes(),
        "damaged": last.read_bytes()[:1000],
    }
    save_tensors(last, {**state, "model": other})
    cases["of another network"] = last.read_bytes()
    for said, content in cases.items():
        last.write_bytes(content)
        with pytest.raises(ModelError, match=rf"last\.pt .*{said}.*delete"):
            alone(run, started(), "checkpoints")
        assert last.read_bytes() == content


@pytest.mark.parametrize("content", ["a state", "a network", "numbers", "half"])
def test_weights_of_another_network_or_none_are_a_sentence(run, content):
    path = write_model(run, small_plan(3))
    match content:
        case "a state":
            save_tensors(path, {"key": "x", "model": torch.load(path, weights_only=True)})
        case "a network":
            path.write_bytes(write_model(run / "b", small_plan(3, channels=2)).read_bytes())
        case "numbers":
            save_tensors(path, [1, 2])
        case "half":
            path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"damaged or of another network.*segflow train` again$"):
        load_model(path)
