"""Automations that the server takes, of events and states that the flows really have."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.deploy.files import DEPLOY, REPOSITORY, read_yaml

FLOWS = [path.read_text() for path in sorted((REPOSITORY / "flows").glob("*.py"))]
HEARTBEATS = [DEPLOY / name for name in ("single-machine.sh", "Dockerfile", "Dockerfile.cuda")]
HEARTBEATS.append(DEPLOY / "systemd" / "segflow.env.example")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """deploy/apply_automations.py, which is no package."""
    spec = importlib.util.spec_from_file_location(
        "apply_automations", DEPLOY / "apply_automations.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def triggers() -> dict[str, Any]:
    """Triggers by the automation's name, as the server understands them."""
    from prefect.server.events.schemas.automations import AutomationCreate

    described = read_yaml("automations.yaml")["automations"]
    return {each["name"]: AutomationCreate.model_validate(each).trigger for each in described}


def event(name: str, **labels: str) -> Any:
    """An event as the server receives it, of a run of the flow `nightly`."""
    from prefect.server.events.schemas.events import ReceivedEvent

    resource = {"prefect.resource.id": "prefect.flow-run.1"} | {
        key.replace("__", "-").replace("_", "."): value for key, value in labels.items()
    }
    flow = {
        "prefect.resource.id": "prefect.flow.1",
        "prefect.resource.role": "flow",
        "prefect.resource.name": "nightly",
    }
    return ReceivedEvent.model_validate(
        {
            "occurred": "2026-01-01T00:00:00Z",
            "event": name,
            "resource": resource,
            "related": [flow],
            "id": "01890000-0000-7000-8000-000000000000",
        }
    )


@pytest.mark.parametrize("state", ["Completed", "NothingNew", "Quarantined", "Kept", "Cancelled"])
def test_a_run_that_ends_is_not_dead_whatever_its_state_is_called(
    triggers: dict[str, Any], state: str
) -> None:
    trigger = triggers["segflow-dead-run"]
    assert trigger.covers(event(f"prefect.flow-run.{state}"))
    assert trigger.expects(f"prefect.flow-run.{state}")
    assert not trigger.starts_after(f"prefect.flow-run.{state}")


def test_a_run_is_watched_from_its_first_heartbeat_on_and_by_itself(
    triggers: dict[str, Any],
) -> None:
    trigger = triggers["segflow-dead-run"]
    assert trigger.starts_after("prefect.flow-run.heartbeat")
    assert trigger.expects("prefect.flow-run.heartbeat")
    assert trigger.for_each == {"prefect.resource.id"}


@pytest.mark.parametrize("path", HEARTBEATS, ids=lambda path: path.name)
def test_several_heartbeats_may_be_lost_before_a_run_is_dead(
    triggers: dict[str, Any], path: Path
) -> None:
    (every,) = re.findall(r"PREFECT_FLOWS_HEARTBEAT_FREQUENCY=(\d+)", path.read_text())
    assert triggers["segflow-dead-run"].within.total_seconds() >= 5 * int(every)


@pytest.mark.parametrize(
    ("name", "kind", "alarms"),
    [
        ("Failed", "FAILED", True),
        ("Crashed", "CRASHED", True),
        ("Broken", "FAILED", True),
        ("NothingNew", "COMPLETED", False),
        ("Running", "RUNNING", False),
    ],
)
def test_red_is_told_by_the_type_of_a_state_and_not_its_name(
    triggers: dict[str, Any], name: str, kind: str, alarms: bool
) -> None:
    told = event(f"prefect.flow-run.{name}", prefect_state__type=kind)
    assert triggers["segflow-red-run"].covers(told) is alarms


def test_the_heartbeat_of_a_run_raises_no_alarm(triggers: dict[str, Any]) -> None:
    assert not triggers["segflow-red-run"].covers(event("prefect.flow-run.heartbeat"))


def test_alarms_are_about_flows_that_there_are() -> None:
    names = {
        node.name
        for text in FLOWS
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(mark) == "dataset_flow" for mark in node.decorator_list)
    }
    (red,) = [a for a in read_yaml("automations.yaml")["automations"] if "red" in a["name"]]
    assert set(red["trigger"]["match_related"]["prefect.resource.name"]) <= names


def test_a_night_that_is_done_is_not_silent(triggers: dict[str, Any]) -> None:
    text = "\n".join(FLOWS)
    trigger = triggers["segflow-silent-night"]
    # Named where they are made, so that a new name there is met here.
    assert 'f"segflow.run.{' in text or '"segflow.run.published"' in text
    published = event("segflow.run.published")
    published.resource["prefect.resource.id"] = "segflow.run.hippo"
    assert trigger.covers(published)
    assert not trigger.covers(event("prefect.flow-run.Running"))
    assert trigger.posture.value == "Proactive"
    assert not trigger.after


def test_with_a_notification_block_every_alarm_becomes_a_message(script: ModuleType) -> None:
    block = "7b3f6d0e-7c10-4bfb-9b1a-6d7b8a6f0a11"
    path = DEPLOY / "automations.yaml"
    silent = {a.name: [x.type for x in a.actions] for a in script.read_automations(path)}
    loud = {a.name: [x.type for x in a.actions] for a in script.read_automations(path, block)}
    assert silent["segflow-red-run"] == silent["segflow-silent-night"] == ["do-nothing"]
    assert loud["segflow-red-run"] == loud["segflow-silent-night"] == ["send-notification"]
    assert loud["segflow-dead-run"] == silent["segflow-dead-run"] == ["change-flow-run-state"]


def test_the_message_is_a_template_that_the_server_takes(script: ModuleType) -> None:
    from prefect.server.events.actions import SendNotification

    SendNotification(
        block_document_id="7b3f6d0e-7c10-4bfb-9b1a-6d7b8a6f0a11",
        subject="segflow",
        body=script.MESSAGE,
    )


def test_the_order_of_a_list_is_no_difference_and_a_word_is(
    script: ModuleType, tmp_path: Path
) -> None:
    path, turned = DEPLOY / "automations.yaml", tmp_path / "automations.yaml"
    described = read_yaml("automations.yaml")
    red = described["automations"][1]["trigger"]
    red["match"]["prefect.state-type"].reverse()
    red["match_related"]["prefect.resource.name"].reverse()
    described["automations"][2]["description"] = "something else"
    turned.write_text(yaml.safe_dump(described))
    pairs = zip(script.read_automations(path), script.read_automations(turned), strict=True)
    same = [script.comparable(one) == script.comparable(other) for one, other in pairs]
    assert same == [True, True, False]
