"""deploy/single-machine.sh as an operator meets it, with a folder and ports of its own."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.deploy.files import DEPLOY, REPOSITORY


@dataclass(frozen=True)
class Machine:
    """A server, a worker and what else single-machine.sh starts."""

    home: Path
    """Database, logs and process ids."""
    environment: dict[str, str]
    """Of every command."""

    @classmethod
    def at(cls, home: Path, **environment: str) -> Machine:
        """One that does not run yet."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SEGFLOW_"))}
        port = free_port()
        return cls(
            home,
            mine
            | {
                "PREFECT_HOME": str(home),
                "SEGFLOW_PORT": port,
                "SEGFLOW_DASK_PORT": free_port(),
                "SEGFLOW_DASK_WORKERS": "1",
                "SEGFLOW_STOP_SECONDS": "20",
                "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
                "PREFECT_WORKER_QUERY_SECONDS": "2",
                "DO_NOT_TRACK": "1",
                "PYTHONPATH": str(REPOSITORY),
            }
            | environment,
        )

    @property
    def port(self) -> str:
        """Of the server."""
        return self.environment["SEGFLOW_PORT"]

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run single-machine.sh, from another folder than the repository."""
        return self.run([str(DEPLOY / "single-machine.sh"), *arguments], **environment)

    def prefect(self, *arguments: str, folder: Path | None = None) -> str:
        """Run a command of Prefect that must succeed, and give what it said."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = self.run(command, folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(
        self, command: list[str], folder: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in this machine's environment."""
        return subprocess.run(
            command,
            cwd=folder or self.home,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=400,
        )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the server's API."""
        headers = {"Content-Type": "application/json"}
        if secret := self.environment.get("PREFECT_API_AUTH_STRING"):
            headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.environment['PREFECT_API_URL']}/{path}"
        with urlopen(Request(url, data, headers), timeout=30) as answer:
            return json.loads(answer.read())

    def state(self, run: str) -> tuple[str, str]:
        """Type and name of a flow run's state."""
        state = self.ask(f"flow_runs/{run}")["state"]
        return state["type"], state["name"]

    def pid(self, part: str) -> int:
        """The process that single-machine.sh wrote down."""
        return int((self.home / "segflow" / f"{part}.pid").read_text().split()[0])


def free_port() -> str:
    """A port of this machine's loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def below(pid: int) -> set[int]:
    """A process and all that it started, of those that live."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in table.stdout.splitlines()]
    parents = {int(p): int(pp) for p, pp, stat in rows if not stat.startswith("Z")}
    found = {pid} & parents.keys()
    while more := {p for p, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def until(true: Callable[[], bool], patience_s: float) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, f"not within {patience_s} s"
        time.sleep(0.5)
