"""systemd's units: valid, without rights, and kind to torch and CUDA."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPUTING = {"segflow-worker.service", "segflow-dask-worker.service"}
every = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)


def settings(unit: Path) -> dict[str, list[str]]:
    """What a unit sets, of all its sections."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    found = verified(tmp_path, {})
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_check_of_systemd_can_fail(tmp_path: Path) -> None:
    found = verified(tmp_path, {"Restart=always": "Restart=often"})
    assert "restart specifier" in found.stdout + found.stderr


def verified(folder: Path, changed: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Check the units, their programs taken from where this test runs."""
    programs = {"/opt/segflow/.venv/bin": str(Path(sys.executable).parent)}
    for file in [*UNITS, DEPLOY / "systemd" / "segflow.target"]:
        text = file.read_text()
        for old, new in (programs | changed).items():
            text = text.replace(old, new)
        (folder / file.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(folder.iterdir()))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@every
def test_a_unit_runs_as_nobody_of_rank_and_is_started_again_for_ever(unit: Path) -> None:
    said = settings(unit)
    assert said["User"] == said["Group"] == ["segflow"]
    assert said["Restart"] == ["always"]
    assert said["StartLimitIntervalSec"] == ["0"]
    assert said["EnvironmentFile"] == ["/etc/segflow/segflow.env"]
    assert said["NoNewPrivileges"] == ["yes"]
    assert said["CapabilityBoundingSet"] == [""]
    assert said["ProtectSystem"] == ["strict"]


@every
def test_what_computes_may_use_gpus_and_compile(unit: Path) -> None:
    said = settings(unit)
    # Each of them shuts out /dev/nvidia*: ProtectClock allows one device, and so forbids the rest.
    shut = {"PrivateDevices", "ProtectClock"} & said.keys()
    assert bool(shut) is (unit.name not in COMPUTING)
    assert "MemoryDenyWriteExecute" not in said
    assert "SystemCallFilter" not in said


@every
def test_nothing_listens_but_on_loopback(unit: Path) -> None:
    (command,) = settings(unit)["ExecStart"]
    if "worker start" in command:
        return
    assert "--host 127.0.0.1" in command
    assert "0.0.0.0" not in unit.read_text()


@every
def test_variables_of_a_command_stand_in_the_environment_file(unit: Path) -> None:
    (command,) = settings(unit)["ExecStart"]
    example = (DEPLOY / "systemd" / "segflow.env.example").read_text()
    assert [v for v in re.findall(r"\$\{(\w+)\}", command) if f"\n{v}=" not in example] == []


def test_the_target_starts_server_and_worker() -> None:
    (wanted,) = settings(DEPLOY / "systemd" / "segflow.target")["Wants"]
    assert wanted.split() == ["segflow-server.service", "segflow-worker.service"]
    assert {unit.name for unit in UNITS} >= set(wanted.split())
