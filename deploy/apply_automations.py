"""Bring the server's automations to what a file says, as often as one likes.

``prefect automation create`` would create all of them again each time. Run with the server's
address in ``PREFECT_API_URL``::

    python deploy/apply_automations.py deploy/automations.yaml

With ``SEGFLOW_ALARM_BLOCK``, the id of a notification block, actions of type ``do-nothing`` become
messages through it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore

MESSAGE = """{{ automation.description }}

{% if flow_run %}Run {{ flow_run.name }} is {{ flow_run.state.name }}: {{ flow_run.state.message }}
{{ flow_run | ui_url }}{% endif %}"""
"""A template of Prefect; there is no run where nothing happened."""


def main() -> None:
    """Apply the file named on the command line."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wanted = read_automations(Path(sys.argv[1]), os.environ.get("SEGFLOW_ALARM_BLOCK"))
    with get_client(sync_client=True) as client:
        for automation in wanted:
            print(f"{automation.name}: {apply(client, automation)}")


def read_automations(path: Path, alarm_block: str | None = None) -> list[AutomationCore]:
    """The automations of a file, alarms sent through a notification block if one is given.

    Args:
        path: In the format of ``prefect automation create --from-file``.
        alarm_block: Id of a block document that can notify.
    """
    described = yaml.safe_load(path.read_text())["automations"]
    if alarm_block:
        for automation in described:
            automation["actions"] = [
                _message(automation, alarm_block) if action["type"] == "do-nothing" else action
                for action in automation["actions"]
            ]
    return [AutomationCore.model_validate(automation) for automation in described]


def apply(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    """Create or update one automation, and say what was done.

    One that is as it should be is not touched: an update begins its waiting times anew. One that
    was paused stays paused.
    """
    found = client.request(
        "POST",
        "/automations/filter",
        json={"automations": {"name": {"any_": [wanted.name]}}},
    ).json()
    if not found:
        client.request("POST", "/automations/", json=_body(wanted))
        return "created"
    first, *copies = found
    for copy in copies:  # of an earlier `prefect automation create`
        client.request("DELETE", f"/automations/{copy['id']}")
    met = AutomationCore.model_validate(first)
    wanted = wanted.model_copy(update={"enabled": met.enabled})
    if comparable(met) == comparable(wanted):
        return "as it was"
    client.request("PUT", f"/automations/{first['id']}", json=_body(wanted))
    return "updated"


def comparable(automation: AutomationCore) -> dict[str, Any]:
    """What a person wrote of an automation, whatever the order of its sets."""
    return _sorted(_body(automation))


def _body(automation: AutomationCore) -> dict[str, Any]:
    # The server takes no owner in an update.
    return automation.model_dump(mode="json", exclude={"owner_resource"})


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        # The server gives each trigger an id.
        return {key: _sorted(inner) for key, inner in sorted(value.items()) if key != "id"}
    if isinstance(value, list):
        return sorted((_sorted(inner) for inner in value), key=repr)
    return value


def _message(automation: dict[str, Any], alarm_block: str) -> dict[str, Any]:
    return {
        "type": "send-notification",
        "block_document_id": alarm_block,
        "subject": automation["name"],
        "body": MESSAGE,
    }


if __name__ == "__main__":
    main()
