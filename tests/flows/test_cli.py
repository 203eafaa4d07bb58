"""Commands end with the exit code and the last line they promise, and never with a traceback."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

from flows import commands
from flows.cli import app
from flows.options import StageName
from pipeline.run import STAGES
from tests.flows.discs import CASES, Ended, Segflow

COMMANDS = [
    command.name or command.callback.__name__
    for command in app.registered_commands
    if command.callback is not None
]


def quarantine(settings: Path) -> list[dict[str, str]]:
    """The run's refused cases."""
    lines = (settings.parent / "run" / "quarantine.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# Help


def test_help_does_not_wait_for_torch_or_prefect() -> None:
    code = "import sys, flows.cli; print({'torch', 'prefect', 'dask'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "set()"


def test_stage_names_of_the_options_are_the_stages() -> None:
    assert get_args(StageName) == STAGES


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example(segflow: Segflow, command: str) -> None:
    found = segflow(command, "--help")
    assert found.code == 0
    assert f"Examples:\n    segflow {command}" in found.out


def test_version_is_shown(segflow: Segflow) -> None:
    assert segflow("--version").out.startswith("segflow 0.")


# Wrong usage and settings: exit code 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "wrong usage: give a command"),
        (["segment"], "wrong usage: No such command 'segment'."),
        (["run"], "wrong usage: Missing argument 'RUN.YAML'."),
        (["run", "x.yaml", "--form", "plan"], "wrong usage: No such option: --form"),
        (["run", "x.yaml", "--until", "plans"], "wrong usage: Invalid value for '--until'"),
        (["predict", "x.yaml", "a.png"], "wrong usage: a.png: name new images with --input"),
        (["predict", "x.yaml", "--output", "d"], "wrong usage: --output goes with --input"),
        (["run", "x.yaml"], "wrong settings: x.yaml cannot be read"),
    ],
)
def test_wrong_usage_ends_with_2(segflow: Segflow, arguments: list[str], message: str) -> None:
    found = segflow(*arguments)
    assert found.code == 2
    assert found.last.startswith(message)


@pytest.mark.parametrize("command", ["check", "run", "ingest", "predict", "status"])
def test_a_wrong_key_names_the_nearest_valid_one(
    segflow: Segflow, discs: Path, command: str
) -> None:
    found = segflow(command, discs, "--set", "train.max_minuts=3")
    assert found.code == 2
    assert found.last == (
        "wrong settings: train.max_minuts: there is no such setting; did you mean "
        "train.max_minutes?"
    )


def test_an_absent_dataset_ends_with_2(segflow: Segflow, discs: Path) -> None:
    found = segflow("ingest", discs, "--set", "data.root=/nowhere")
    assert found.code == 2
    assert found.last.startswith("wrong settings: data.root: /nowhere is not a folder")


# Bad input: exit code 3, and the other cases go on


def remove_mask(data: Path) -> None:
    (data / "masks" / "disc_3.png").unlink()


def shrink_mask(data: Path) -> None:
    Image.new("L", (8, 8)).save(data / "masks" / "disc_3.png")


def add_a_value(data: Path) -> None:
    Image.new("L", (64, 64), 7).save(data / "masks" / "disc_3.png")


def truncate_image(data: Path) -> None:
    path = data / "images" / "disc_3.png"
    path.write_bytes(path.read_bytes()[:100])


def add_scan(data: Path, values: np.ndarray) -> None:
    """Put a NIfTI pair in the place of a picture and its mask."""
    for kind, voxels in (("images", values), ("masks", np.zeros(values.shape, np.uint8))):
        (data / kind / "disc_3.png").unlink()
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), data / kind / "disc_3.nii.gz")


def truncate_scan(data: Path) -> None:
    add_scan(data, np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32))
    path = data / "images" / "disc_3.nii.gz"
    path.write_bytes(path.read_bytes()[:4000])


def cut_voxels_off(data: Path) -> None:
    add_scan(data, np.zeros((16, 16, 16), np.float32))
    path = data / "images" / "disc_3.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))


def put_nan(data: Path) -> None:
    add_scan(data, np.full((8, 8, 8), np.nan, np.float32))


FILES = [remove_mask, shrink_mask, add_a_value, truncate_image]
SCANS = [truncate_scan, cut_voxels_off, put_nan]


@pytest.mark.parametrize("spoil", FILES + SCANS)
@pytest.mark.parametrize("command", ["check", "ingest"])
def test_one_bad_case_is_set_aside(
    segflow: Segflow, discs: Path, command: str, spoil: Callable[[Path], None]
) -> None:
    spoil(discs.parent / "data")
    found = segflow(command, discs)
    assert found.code == 3
    assert found.last.startswith("complete, 1 case")
    assert "disc_3" in found.out
    assert "Traceback" not in found.out + found.err
    if command == "ingest":
        assert found.last == (
            f"complete, 1 case quarantined: see {discs.parent}/run/quarantine.jsonl"
        )
        (row,) = quarantine(discs)
        assert row["case"] == "disc_3"
        assert row["reason"]
        assert row["remedy"]


def test_a_quarantined_case_is_printed_when_it_is_met(segflow: Segflow, discs: Path) -> None:
    shrink_mask(discs.parent / "data")
    assert "disc_3: quarantined, its mask has shape (8, 8)" in segflow("ingest", discs).out


# Nothing usable, and failures: exit code 1


@pytest.fixture
def nothing_usable(discs: Path) -> Path:
    for mask in (discs.parent / "data" / "masks").iterdir():
        mask.unlink()
    return discs


@pytest.mark.parametrize("command", ["check", "ingest"])
def test_nothing_usable_ends_with_1(segflow: Segflow, nothing_usable: Path, command: str) -> None:
    found = segflow(command, nothing_usable)
    assert found.code == 1
    assert found.last.startswith("failed: ")
    assert "Traceback" not in found.out + found.err


def test_debug_shows_the_traceback(segflow: Segflow, nothing_usable: Path) -> None:
    found = segflow("ingest", nothing_usable, "--debug")
    assert found.code == 1
    assert "Traceback" in found.err
    assert found.last.startswith("failed: all 8 cases are unusable")


def test_a_stage_before_its_turn_says_what_to_run(segflow: Segflow, discs: Path) -> None:
    found = segflow("train", discs)
    assert found.code == 1
    assert "plan.json" in found.last


def test_an_unforeseen_error_is_one_sentence(
    segflow: Segflow, discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "status", lambda *_: 1 / 0)
    found = segflow("status", discs)
    assert found.code == 1
    assert found.err == (
        "failed: ZeroDivisionError: division by zero; run it again with --debug and report what "
        "it prints\n"
    )


def test_ctrl_c_is_one_sentence(
    segflow: Segflow, discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "status", interrupted)
    found = segflow("status", discs)
    assert found.code == 130
    assert found.err == "stopped: the same command goes on where this one was stopped\n"


# JSON


def test_json_is_one_object_and_lines_go_to_stderr(segflow: Segflow, discs: Path) -> None:
    found = segflow("ingest", discs, "--json")
    value = json.loads(found.out)
    assert value["status"] == "complete"
    assert (value["exit_code"], value["complete"], value["quarantined"]) == (0, CASES, 0)
    assert value["message"] == found.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["ingest", "--set", "data.root=/nowhere"], 2, "wrong settings"),
        (["ingest", "--sett", "a=b"], 2, "wrong settings"),
        (["train"], 1, "failed"),
    ],
)
def test_json_tells_of_failures_too(
    segflow: Segflow, discs: Path, arguments: list[str], code: int, status: str
) -> None:
    found = segflow(arguments[0], discs, *arguments[1:], "--json")
    value = json.loads(found.out)
    assert (found.code, value["exit_code"], value["status"]) == (code, code, status)


# check, init, status


def test_check_writes_what_it_found_and_nothing_else(segflow: Segflow, discs: Path) -> None:
    remove_mask(discs.parent / "data")
    segflow("check", discs)
    run = discs.parent / "run"
    assert [path.name for path in run.iterdir()] == ["check.json"]
    found = json.loads((run / "check.json").read_text())
    counts = found["counts"]
    assert (counts["usable"], counts["refused"], len(found["cases"])) == (CASES - 1, 1, CASES)


def test_init_writes_settings_that_check_accepts(segflow: Segflow, discs: Path) -> None:
    output = discs.parent / "new.yaml"
    found = segflow("init", discs.parent / "data", "-o", output)
    assert (found.code, found.last) == (0, f"complete: {output}; next: segflow check {output}")
    assert segflow("check", output, "--set", "execute.on=serial").code == 0


def test_init_overwrites_only_when_told_to(segflow: Segflow, discs: Path) -> None:
    before = discs.read_text()
    found = segflow("init", discs.parent / "data", "-o", discs)
    assert found.code == 2
    assert "overwrite it with --force" in found.last
    assert discs.read_text() == before
    assert segflow("init", discs.parent / "data", "-o", discs, "--force").code == 0
    assert yaml.safe_load(discs.read_text())["data"]["layout"] == "pairs"


def test_status_follows_the_run(segflow: Segflow, discs: Path) -> None:
    found = segflow("status", discs)
    assert (found.code, found.last) == (0, f"ingest is not yet done: segflow run {discs}")
    segflow("ingest", discs)
    stages = json.loads(segflow("status", discs, "--json").out)["stages"]
    assert stages[0] == {"stage": "ingest", "state": "done", "detail": "8 of 8 cases"}
    assert [s["state"] for s in stages[1:]] == ["not yet done"] * 6


def test_status_of_a_run_that_does_not_exist_makes_nothing(segflow: Segflow, discs: Path) -> None:
    segflow("status", discs)
    assert not (discs.parent / "run").exists()


def test_plain_lines_hold_no_terminal_codes(segflow: Segflow, discs: Path) -> None:
    found: Ended = segflow("ingest", discs)
    assert "\x1b" not in found.out
    assert "ingest 8/8" in found.out
