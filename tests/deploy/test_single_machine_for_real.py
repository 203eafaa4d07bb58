"""A machine brought up, used, hurt and taken down, offline."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.deploy.files import DEPLOY, read_yaml
from tests.deploy.machine import Machine, below, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SECRET = "operator:not-a-secret"
DEAD_AFTER_S = 45
"""Of the test's copy; a heartbeat comes every 30 seconds, and Prefect allows no less."""
FLOWS = """
import os, time
from pathlib import Path
from prefect import flow
from prefect.states import Completed

@flow
def sleeper(note: str, seconds: float):
    Path(note).write_text(str(os.getpid()))
    time.sleep(seconds)
    return Completed(name="NothingNew", message="nothing new")

@flow
def segment():
    raise ValueError("as the test wants it")
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that runs, and asks everyone for a secret."""
    secret = {"PREFECT_SERVER_API_AUTH_STRING": SECRET, "PREFECT_API_AUTH_STRING": SECRET}
    machine = Machine.at(tmp_path_factory.mktemp("machine"), **secret)
    try:
        started = machine("up")
        assert started.returncode == 0, started.stdout + started.stderr
        yield machine
    finally:
        machine("down")


@pytest.fixture(scope="module")
def flows(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small flows, registered as deployments for one run at a time."""
    folder = tmp_path_factory.mktemp("flows")
    (folder / "small.py").write_text(FLOWS)
    one = ("--concurrency-limit", "1", "--collision-strategy", "CANCEL_NEW")
    for flow in ("sleeper", "segment"):
        where = (f"small.py:{flow}", "-n", "small", "--pool", "segflow", *one)
        machine.prefect("deploy", *where, folder=folder)
    return folder


def begin(machine: Machine, deployment: str, **parameters: object) -> str:
    """Start a deployment's run and give its id."""
    flow, name = deployment.split("/")
    asked = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}}
    (found,) = machine.ask("deployments/filter", asked)
    path = f"deployments/{found['id']}/create_flow_run"
    return machine.ask(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"]


def apply(machine: Machine, file: Path, **environment: str) -> str:
    command = [sys.executable, str(DEPLOY / "apply_automations.py"), str(file)]
    done = machine.run(command, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def automations(machine: Machine) -> list[str]:
    return sorted(found["name"] for found in machine.ask("automations/filter", {}))


def test_up_registers_pool_limit_automations_and_deployments(machine: Machine) -> None:
    assert machine.ask("work_pools/segflow")["type"] == "process"
    assert machine.ask("v2/concurrency_limits/segflow-gpu")["limit"] >= 1
    assert automations(machine) == sorted(
        a["name"] for a in read_yaml("automations.yaml")["automations"]
    )
    registered = {found["name"] for found in machine.ask("deployments/filter", {})}
    wanted = {
        d["name"]
        for d in yaml.safe_load((DEPLOY.parent / "prefect.yaml").read_text())["deployments"]
    }
    assert wanted <= registered


def test_up_twice_starts_nothing_twice_and_keeps_what_was_changed(machine: Machine) -> None:
    parts = ("server", "worker")
    pids = [machine.pid(part) for part in parts]
    machine.prefect("gcl", "update", "segflow-gpu", "--limit", "3")
    machine.prefect("automation", "pause", "segflow-silent-night")
    before = automations(machine)
    again = machine("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [machine.pid(part) for part in parts] == pids
    assert automations(machine) == before
    assert machine.ask("v2/concurrency_limits/segflow-gpu")["limit"] == 3
    paused = [a["name"] for a in machine.ask("automations/filter", {}) if not a["enabled"]]
    assert paused == ["segflow-silent-night"]


def test_an_automation_is_updated_where_it_differs_and_only_there(
    machine: Machine, tmp_path: Path
) -> None:
    said = apply(machine, DEPLOY / "automations.yaml")
    assert said.count("as it was") == 3
    changed = read_yaml("automations.yaml")
    changed["automations"][2]["trigger"]["within"] = 7200
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(changed))
    said = apply(machine, tmp_path / "changed.yaml")
    assert (said.count("as it was"), said.count("updated")) == (2, 1)
    assert apply(machine, tmp_path / "changed.yaml").count("as it was") == 3


def test_a_page_of_another_origin_may_not_use_the_api(machine: Machine) -> None:
    url = f"{machine.environment['PREFECT_API_URL']}/health"

    def allowed(origin: str) -> str | None:
        with urlopen(Request(url, headers={"Origin": origin}), timeout=30) as answer:
            return answer.headers.get("Access-Control-Allow-Origin")

    assert allowed("https://example.org") is None
    assert allowed(f"http://127.0.0.1:{machine.port}") == f"http://127.0.0.1:{machine.port}"


def test_a_killed_run_becomes_crashed_and_gives_its_place_to_the_next(
    machine: Machine, flows: Path, tmp_path: Path
) -> None:
    shortened = read_yaml("automations.yaml")
    shortened["automations"][0]["trigger"]["within"] = DEAD_AFTER_S
    (tmp_path / "automations.yaml").write_text(yaml.safe_dump(shortened))
    apply(machine, tmp_path / "automations.yaml")

    note = tmp_path / "pid"
    run = begin(machine, "sleeper/small", note=str(note), seconds=600)
    until(lambda: note.exists() and note.read_text() != "", 120)
    assert machine.state(run) == ("RUNNING", "Running")
    worker, flow = machine.pid("worker"), int(note.read_text())
    assert flow in below(worker)
    os.kill(worker, signal.SIGKILL)
    os.kill(flow, signal.SIGKILL)

    # Nobody is left who could say so but the server.
    assert machine("status").returncode == 1
    until(lambda: machine.state(run) == ("CRASHED", "Crashed"), 180)
    assert machine.ask(f"flow_runs/{run}")["state"]["message"].startswith("No heartbeat")

    started = machine("up")
    assert started.returncode == 0, started.stdout + started.stderr
    apply(machine, tmp_path / "automations.yaml")
    # Its place is free, and a run that ends under a name of its own is no dead one.
    after = begin(machine, "sleeper/small", note=str(note), seconds=1)
    until(lambda: machine.state(after)[0] not in ("SCHEDULED", "PENDING", "RUNNING"), 120)
    assert machine.state(after) == ("COMPLETED", "NothingNew")
    longer = begin(machine, "sleeper/small", note=str(note), seconds=1.5 * DEAD_AFTER_S)
    until(lambda: machine.state(longer)[0] not in ("SCHEDULED", "PENDING", "RUNNING"), 180)
    assert machine.state(longer) == ("COMPLETED", "NothingNew")
    assert machine.state(after) == ("COMPLETED", "NothingNew")


def test_an_alarm_goes_through_a_notification_block(machine: Machine, flows: Path) -> None:
    heard: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Hook) as hook:
        Thread(target=hook.serve_forever, daemon=True).start()
        block = machine.run(
            [
                sys.executable,
                "-c",
                "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Hook\n"
                f"hook = Hook(name='alarm', url='http://127.0.0.1:{hook.server_port}/', "
                "json_data={'subject': '{{subject}}', 'body': '{{body}}'})\n"
                "print(hook.save('segflow-alarm', overwrite=True))",
            ]
        )
        assert block.returncode == 0, block.stderr
        apply(machine, DEPLOY / "automations.yaml", SEGFLOW_ALARM_BLOCK=block.stdout.strip())
        begin(machine, "segment/small")
        until(lambda: len(heard) > 0, 120)
        hook.shutdown()
    assert heard[0]["subject"] == "segflow-red-run"
    assert "failed or crashed" in heard[0]["body"]
    assert "Failed" in heard[0]["body"]


def test_down_ends_everything_and_up_starts_it_again_with_dask(machine: Machine) -> None:
    pids = below(machine.pid("server")) | below(machine.pid("worker"))
    assert len(pids) >= 2
    down = machine("down")
    assert down.returncode == 0, down.stderr
    assert not any(below(pid) for pid in pids)
    assert machine("status").returncode == 1
    assert machine("down").returncode == 0

    up = machine("up", "--dask")
    assert up.returncode == 0, up.stdout + up.stderr
    address = f"tcp://127.0.0.1:{machine.environment['SEGFLOW_DASK_PORT']}"
    assert address in up.stdout
    told = Path(f"/proc/{machine.pid('worker')}/environ")
    if told.exists():
        assert f"DASK_SCHEDULER_ADDRESS={address}".encode() in told.read_bytes().split(b"\0")
    healthy = machine("status")
    assert healthy.returncode == 0, healthy.stdout
    assert "1 with the scheduler" in healthy.stdout

    dask = below(machine.pid("dask-worker"))
    os.kill(machine.pid("dask-scheduler"), signal.SIGKILL)
    ill = machine("status")
    assert ill.returncode == 1
    assert "dask-scheduler: does not run" in ill.stdout
    assert machine("down").returncode == 0
    assert not any(below(pid) for pid in dask)
