"""A real Prefect server and a real worker on loopback, which tests may kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.flows.discs import REPOSITORY

POOL = ("segflow", "--type", "process")


@dataclass
class Prefect:
    """A Prefect server of the tests' own, with a worker."""

    folder: Path
    """For its database and logs."""
    environment: dict[str, str] = field(default_factory=dict)
    """Of every command that is to talk to it."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """Server and worker."""

    def __call__(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of Prefect."""
        return self._command("prefect", "--no-prompt", *arguments, given=given)

    def segflow(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of segflow."""
        return self._command("flows.cli", *map(str, arguments))

    def _command(
        self, module: str, *arguments: str, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
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
            return json.loads(answer.read() or "null")

    def runs(self, deployment: str) -> list[tuple[str, str]]:
        """Type and name of the states of a deployment's runs that are not only planned.

        Args:
            deployment: Flow and name, as ``nightly/discs``; the newest run first.
        """
        flow, name = deployment.split("/")
        found = self.ask(
            "flow_runs/filter",
            {
                "flows": {"name": {"any_": [flow]}},
                "deployments": {"name": {"any_": [name]}},
                "sort": "START_TIME_DESC",
            },
        )
        return [
            (run["state_type"], run["state_name"])
            for run in found
            if run["state_type"] != "SCHEDULED"
        ]

    def start(self, name: str, *arguments: str) -> None:
        """Start a part of Prefect in a process group of its own."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_worker(self) -> None:
        """Start the worker."""
        self.start("worker", "worker", "start", "--pool", *POOL, "--limit", "1")

    def kill_worker(self) -> None:
        """SIGKILL to the worker, to the runs it has started, and to all that these have started."""
        worker = self.processes.pop("worker")
        doomed = [worker.pid, *descendants(worker.pid)]
        for pid in doomed:
            signal_to(pid, signal.SIGSTOP)  # none may tidy up after another
        for pid in doomed:
            signal_to(pid, signal.SIGKILL)
        worker.wait()


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, of in parents if of == parent]
    return found[1:]


def signal_to(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def until(true: Callable[[], bool], patience_s: float, every_s: float = 0.5) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, f"not within {patience_s} s"
        time.sleep(every_s)


@contextmanager
def served(folder: Path) -> Iterator[Prefect]:
    """Server and worker on this machine's loopback, ended at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PYTHONPATH": str(REPOSITORY),
        "DO_NOT_TRACK": "1",
    }
    prefect = Prefect(folder, environment)

    def healthy() -> bool:
        try:
            with urlopen(f"{url}/health", timeout=5):
                return True
        except OSError:
            return False

    try:
        prefect.start("server", "server", "start", "--host", "127.0.0.1", "--port", port)
        until(healthy, 120)
        assert prefect("work-pool", "create", *POOL, "--overwrite").returncode == 0
        prefect.start_worker()
        yield prefect
    finally:
        for process in reversed(prefect.processes.values()):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
