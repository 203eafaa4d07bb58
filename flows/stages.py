"""A Prefect flow for each stage, and what every stage does when Prefect runs it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from prefect import flow
from prefect.logging import get_run_logger

from flows.progress import Thinned, as_line
from pipeline.execute import Progress, silent
from pipeline.run import RunSettings, Stage, run_stage


@dataclass(frozen=True)
class Listener:
    """Somebody in this process who follows the stages: the command line."""

    progress: Progress = silent
    """Told of every finished task."""
    ended: Callable[[str, str], None] = lambda stage, line: None
    """Told what a stage has made."""


LISTENER: ContextVar[Listener] = ContextVar("listener", default=Listener())  # noqa: B039 (frozen)


def work(stage: Stage, settings: RunSettings) -> str:
    """Run a stage inside a Prefect run, and tell of it in the run's log.

    Raises:
        SegflowError: The stage cannot end well; Prefect marks the run failed with its sentence.
    """
    log, listener = get_run_logger(), LISTENER.get()
    logged = Thinned(lambda *call: log.info("%s", as_line(*call)))

    def progress(stage: str, done: int, total: int, note: str) -> None:
        logged(stage, done, total, note)
        listener.progress(stage, done, total, note)

    line = run_stage(stage, settings, progress)
    log.info("%s: %s", stage, line)
    listener.ended(stage, line)
    return line


@flow(flow_run_name="{settings.name}")
def ingest(settings: RunSettings) -> str:
    """Source files → volume stores, manifest and quarantine."""
    return work("ingest", settings)


@flow(flow_run_name="{settings.name}")
def plan(settings: RunSettings) -> str:
    """Statistics of the stores → plan.json."""
    return work("plan", settings)


@flow(flow_run_name="{settings.name}")
def patch(settings: RunSettings) -> str:
    """Volume stores → patch store."""
    return work("patch", settings)


@flow(flow_run_name="{settings.name}")
def train(settings: RunSettings) -> str:
    """Patches → model."""
    return work("train", settings)


@flow(flow_run_name="{settings.name}")
def predict(settings: RunSettings) -> str:
    """Volume stores and model → mask stores."""
    return work("predict", settings)


@flow(flow_run_name="{settings.name}")
def score(settings: RunSettings) -> str:
    """Masks and truth → scores.json."""
    return work("score", settings)


@flow(flow_run_name="{settings.name}")
def report(settings: RunSettings) -> str:
    """Scores, masks and training curve → one HTML page."""
    return work("report", settings)
