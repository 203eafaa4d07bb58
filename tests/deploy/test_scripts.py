"""The shell scripts: written without the usual mistakes, and careful with what is not theirs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, tool
from tests.deploy.machine import Machine, below, until

SCRIPTS = sorted([*DEPLOY.glob("*.sh"), *DEPLOY.glob("slurm/*.sbatch")])
STUBBORN = "trap '' TERM; touch ready; while true; do sleep 0.2; done"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One that does not run."""
    return Machine.at(tmp_path, SEGFLOW_STOP_SECONDS="1")


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child that no SIGTERM ends."""
    command = ["bash", "-c", f'bash -c "{STUBBORN}" & wait']
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as process:
        until((tmp_path / "ready").exists, 20)
        yield process
        if process.poll() is None:
            os.killpg(process.pid, 9)


def record(machine: Machine, part: str, pid: int, birth: str) -> Path:
    """Write down a process as single-machine.sh does."""
    folder = machine.home / "segflow"
    folder.mkdir(exist_ok=True)
    (folder / f"{part}.pid").write_text(f"{pid}\n{birth}\n")
    return folder / f"{part}.pid"


def birth_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_shellcheck_finds_nothing() -> None:
    assert len(SCRIPTS) == 4
    found = tool("shellcheck", *SCRIPTS)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_started_and_stops_at_the_first_error(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert "\nset -euo pipefail\n" in script.read_text()


def test_help_names_every_command_and_setting(machine: Machine) -> None:
    said = machine("--help").stdout
    assert all(f"single-machine.sh {name}" in said for name in ("up", "down", "status", "restart"))
    text = (DEPLOY / "single-machine.sh").read_text()
    used = {word.split("}")[0].split(":-")[0] for word in text.split("${SEGFLOW_")[1:]}
    assert used
    assert not [name for name in used if f"SEGFLOW_{name} " not in said]


def test_an_unknown_command_or_option_is_refused(machine: Machine) -> None:
    assert machine("upp").returncode == 2
    unknown = machine("up", "--gpu")
    assert unknown.returncode == 1
    assert "there is only --dask" in unknown.stderr


def test_where_nothing_runs_status_says_so_and_down_does_no_harm(machine: Machine) -> None:
    status = machine("status")
    assert status.returncode == 1
    assert "server: does not run" in status.stdout
    assert machine("down").returncode == 0


def test_a_port_that_others_hold_is_left_to_them(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", int(machine.port))) as other:
        refused = machine("up")
        assert refused.returncode == 1
        assert f"port {machine.port} is taken" in refused.stderr
        assert "SEGFLOW_PORT=" in refused.stderr
        assert other.fileno() >= 0
    assert not (machine.home / "segflow" / "server.pid").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the start time from /proc")
def test_down_leaves_a_process_alone_that_only_has_the_number_of_ours(machine: Machine) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        file = record(machine, "server", other.pid, birth="1")
        assert machine("status").returncode == 1
        assert machine("down").returncode == 0
        time.sleep(0.2)
        assert other.poll() is None
        assert not file.exists()
        other.communicate(b"\n")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the start time from /proc")
def test_down_kills_children_that_do_not_end_by_themselves(
    machine: Machine, stubborn: subprocess.Popen[bytes]
) -> None:
    family = below(stubborn.pid)
    assert len(family) >= 2
    file = record(machine, "worker", stubborn.pid, birth_of(stubborn.pid))
    ended = machine("down")
    assert ended.returncode == 0, ended.stderr
    assert "worker: ended" in ended.stdout
    stubborn.wait(5)
    until(lambda: not any(below(pid) for pid in family), 5)
    assert not file.exists()
