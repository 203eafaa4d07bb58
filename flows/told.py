"""What a flow tells Prefect at its end: artifacts for people, events for automations."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.steps import artifact_key
from pipeline.publish import Version

MOST_EVENTS = 100
"""Quarantined cases that get an event of their own; all stand in the summary's count."""


MOST_NAMED = 100
"""Cases that an event names of each kind: Prefect refuses events of more than 1.5 MB."""


class Refusal(Protocol):
    """A quarantined case."""

    @property
    def case(self) -> str:
        """Case id."""

    @property
    def stage(self) -> str:
        """The stage that refused it."""

    @property
    def reason(self) -> str:
        """What was met and what was expected."""

    @property
    def remedy(self) -> str:
        """What to do."""


def show(run_name: str, verdict: str, markdown: str) -> None:
    """Leave the summary among Prefect's artifacts, its verdict where a list of them shows it."""
    create_markdown_artifact(key=artifact_key(run_name), markdown=markdown, description=verdict)


def name_run(name: str) -> None:
    """Give the flow run a name that tells its outcome in every list of runs.

    The state cannot: pages of deployments hide states whose names Prefect does not know.
    """
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name)


def tell_quarantined(run_name: str, refused: Iterable[Refusal]) -> None:
    """Send ``segflow.case.quarantined`` for each case."""
    for refusal in list(refused)[:MOST_EVENTS]:
        emit_event(
            event="segflow.case.quarantined",
            resource={
                "prefect.resource.id": f"segflow.case.{run_name}.{refusal.case}",
                "prefect.resource.name": refusal.case,
                "segflow.run": run_name,
            },
            payload={
                "stage": refusal.stage,
                "reason": refusal.reason,
                "remedy": refusal.remedy,
            },
        )


def tell_published(run_name: str, version: Version, folder: Path, is_new: bool) -> None:
    """Send ``segflow.run.published``, or ``segflow.run.unchanged`` where nothing was new."""
    changes = {"added": version.added, "changed": version.changed, "removed": version.removed}
    emit_event(
        event=f"segflow.run.{'published' if is_new else 'unchanged'}",
        resource={
            "prefect.resource.id": f"segflow.run.{run_name}",
            "prefect.resource.name": run_name,
        },
        payload={
            "version": version.name,
            "folder": str(folder.resolve()),
            "masks": len(version.masks),
            **{f"n_{what}": len(cases) for what, cases in changes.items()},
            **{what: list(cases)[:MOST_NAMED] for what, cases in changes.items()},
        },
    )
