"""A real server, a real worker, offline: a dataset is registered, run, scheduled and cancelled."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.flows.discs import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SCHEDULED_EVERY_S = 20


@dataclass(frozen=True)
class Prefect:
    """A Prefect server of this test's own, with a worker."""

    environment: dict[str, str]
    """Of every command that is to talk to it."""

    def __call__(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of Prefect."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Ask the server's API."""
        request = Request(
            f"{self.environment['PREFECT_API_URL']}/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def states(self, deployment: str) -> list[str]:
        """States of the deployment's runs that are no longer only planned."""
        runs = self.ask("flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}})
        return [run["state_type"] for run in runs if run["state_type"] != "SCHEDULED"]


def until(true: Callable[[], bool], patience_s: float) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, f"not within {patience_s} s"
        time.sleep(0.5)


@pytest.fixture
def prefect(tmp_path: Path) -> Iterator[Prefect]:
    """Server and worker on this machine's loopback, ended by their process ids."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "DO_NOT_TRACK": "1",
    }
    prefect, started = Prefect(environment), []

    def start(*arguments: str) -> None:
        with (tmp_path / f"{arguments[0]}.log").open("w") as log:
            command = [sys.executable, "-m", "prefect", *arguments]
            started.append(
                subprocess.Popen(
                    command, env=environment, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
                )
            )

    def healthy() -> bool:
        try:
            with urlopen(f"{environment['PREFECT_API_URL']}/health", timeout=5):
                return True
        except OSError:
            return False

    try:
        start("server", "start", "--host", "127.0.0.1", "--port", port)
        until(healthy, 120)
        pool = ("segflow", "--type", "process")
        assert prefect("work-pool", "create", *pool, "--overwrite").returncode == 0
        start("worker", "start", "--pool", *pool, "--limit", "1")
        yield prefect
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def parameters(path: Path, **changes: Any) -> str:
    """The flow's parameters for a run.yaml, some settings changed."""
    return json.dumps({"settings": yaml.safe_load(path.read_text()) | changes})


def test_a_new_dataset_is_run_scheduled_and_cancelled(
    prefect: Prefect, discs: Path, tmp_path: Path
) -> None:
    deployed = prefect("deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr

    # Registered once, run with its own settings.
    run = ("deployment", "run", "segment/new-dataset")
    done = prefect(*run, "--params", "-", "--watch", given=parameters(discs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "report" / "index.html").exists()
    assert prefect.states("new-dataset") == ["COMPLETED"]

    # Wrong settings are refused before a run is made.
    wrong = prefect(*run, "--params", parameters(discs, train={"max_steps": 0}))
    assert wrong.returncode == 1
    assert "settings.train.max_steps" in wrong.stdout + wrong.stderr

    # A schedule fires, twice.
    every = ("--interval", str(SCHEDULED_EVERY_S))
    nightly = ("deploy", "flows.segment.segment", "-n", "nightly", "--pool", "segflow", *every)
    scheduled = prefect(*nightly, "--params", parameters(discs))
    assert scheduled.returncode == 0, scheduled.stdout + scheduled.stderr
    until(lambda: prefect.states("nightly").count("COMPLETED") >= 2, 180)
    assert prefect("deployment", "delete", "segment/nightly").returncode == 0

    # A cancelled run takes its training processes with it.
    long = parameters(discs, run_dir=str(tmp_path / "long"), train={"max_minutes": 10})
    prefect(*run, "--params", long)
    log = tmp_path / "long" / "checkpoints" / "log.jsonl"
    until(lambda: log.exists() and log.stat().st_size > 0, 180)
    now = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    (running,) = prefect.ask("flow_runs/filter", now)
    assert prefect("flow-run", "cancel", running["id"]).returncode == 0
    until(lambda: "CANCELLED" in prefect.states("new-dataset"), 60)
    until(lambda: not _grows(log), 60)


def _grows(path: Path) -> bool:
    before = path.stat().st_size
    time.sleep(5)
    return path.stat().st_size > before
