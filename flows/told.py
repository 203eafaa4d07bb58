"""What a flow tells Prefect at its end: artifacts for people, events for automations."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.events import emit_event

from flows.steps import artifact_key
from pipeline.publish import Version

MOST_EVENTS = 100
"""Quarantined cases that get an event of their own; all stand in the summary's count."""


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


def show(run_name: str, markdown: str, report: Path | None) -> None:
    """Leave the summary, and the way to the report, among Prefect's artifacts."""
    create_markdown_artifact(
        key=artifact_key(run_name), markdown=markdown, description=f"Result of run {run_name}"
    )
    if report is not None and report.exists():
        create_link_artifact(
            key=artifact_key(f"{run_name}-report"),
            link=report.resolve().as_uri(),
            link_text=str(report),
            description=f"Report of run {run_name}, on the machine that made it",
        )


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
            "added": list(version.added),
            "changed": list(version.changed),
            "removed": version.removed,
        },
    )
