"""SIGKILL in the middle of a stage, the same command again, the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pipeline.run import STAGES, RunSettings, dump_settings, load_settings, run_stage

SCRIPT = """
import sys
from pathlib import Path
from pipeline.run import load_settings, run_stage
for stage in sys.argv[2:]:
    run_stage(stage, load_settings(Path(sys.argv[1])))
"""


def start(settings: Path, *stages: str) -> subprocess.Popen:
    environment = {**os.environ, "SEGFLOW_TEST": str(settings)}
    command = [sys.executable, "-c", SCRIPT, str(settings), *stages]
    return subprocess.Popen(command, env=environment)


def finish(settings: Path, *stages: str) -> None:
    with start(settings, *stages) as process:
        assert process.wait(timeout=200) == 0


def kill_when(process: subprocess.Popen, ready) -> None:
    """Kill a process as soon as ``ready()``; fail if it ends before."""
    with process:
        until = time.monotonic() + 120
        while not ready():
            assert process.poll() is None, "the stage ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)


def wait_until(ready) -> None:
    """Wait half a minute at most."""
    until = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.1)


def gone(settings: Path) -> bool:
    """Whether nothing that was started for these settings is alive."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"SEGFLOW_TEST={settings}".encode() in environment and state != "Z":
            return False
    return True


@pytest.fixture
def settings(make_pairs, tmp_path):
    """Two runs of one name over the same scenes, ready to train; the first one is the control."""
    data = make_pairs(tmp_path / "data", cases=12, side=60)
    files = []
    for name in ("whole", "killed"):
        run = RunSettings.model_validate(
            {
                "name": "night",
                "run_dir": str(tmp_path / name),
                "data": data.model_dump(),
                "plan": {"base_features": 4, "stages": 3},
                "train": {
                    "max_minutes": None,
                    "max_steps": 60,
                    "validations": 2,
                    "checkpoint_minutes": 1e-9,
                },
                "execute": {"on": "serial"},
            }
        )
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(dump_settings(run))
        for stage in STAGES[:3]:
            run_stage(stage, load_settings(files[-1]))
    return files


@pytest.mark.slow
def test_a_night_killed_in_training_and_in_prediction_ends_with_the_same_masks(
    settings, tmp_path, tree
):
    whole, killed = settings
    finish(whole, "train", "predict")

    log = tmp_path / "killed/checkpoints/log.jsonl"
    kill_when(
        start(killed, "train"), lambda: log.exists() and len(log.read_text().splitlines()) >= 2
    )
    wait_until(lambda: gone(killed))  # the processes it launched end with it
    assert not (tmp_path / "killed/checkpoints/train.json").exists()
    finish(killed, "train")

    masks = tmp_path / "killed/predictions"
    kill_when(start(killed, "predict"), lambda: len(list(masks.glob("*/[!.]*.zarr"))) >= 2)
    published = len(list(masks.glob("*/[!.]*.zarr")))
    assert published < 12
    finish(killed, "predict")
    assert tree(masks) == tree(tmp_path / "whole/predictions")
    assert len(list(masks.glob("*/*.zarr"))) == 12


def test_a_training_told_to_stop_saves_what_it_has_learnt(settings, tmp_path):
    file = settings[1]
    text = file.read_text().replace("checkpoint_minutes: 1.0e-09", "checkpoint_minutes: 60")
    file.write_text(text.replace("max_steps: 60", "max_steps: 100000"))
    log = tmp_path / "killed/checkpoints/log.jsonl"
    with start(file, "train") as process:
        until = time.monotonic() + 120
        while not (log.exists() and log.read_text().count("\n") >= 2):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    state = torch.load(tmp_path / "killed/checkpoints/last.pt", weights_only=True)
    assert state["position"] >= 20 * 4
    wait_until(lambda: gone(file))  # a loader sees within seconds that its process has ended
