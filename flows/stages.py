"""A Prefect flow for each stage, and the task that every stage is within larger flows."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.steps import RETRIES, dataset_flow, ended, may_pass, step
from pipeline.run import RunSettings, Stage, run_stage


def work(stage: Stage, settings: RunSettings) -> str:
    """Run a stage inside a Prefect run, and tell of it in the run's log.

    Raises:
        SegflowError: The stage cannot end well; Prefect marks the run failed with its sentence.
    """
    with step(stage, settings.name) as progress:
        line = run_stage(stage, settings, progress)
    return ended(stage, line)


# No cache: what is done already is known to the ledger beside the stores, which outlives Prefect's
# database. A task is a stage over all its cases: they share workers, network and ledger, so that a
# retry computes only what is missing, and one huge case and a thousand small ones spread alike.
@task(cache_policy=NO_CACHE, task_run_name="{stage}", retry_condition_fn=may_pass, **RETRIES)
def run_stage_task(stage: Stage, settings: RunSettings) -> str:
    """Run one stage."""
    return work(stage, settings)


@dataset_flow
def ingest(settings: RunSettings) -> str:
    """Source files → volume stores, manifest and quarantine."""
    return work("ingest", settings)


@dataset_flow
def plan(settings: RunSettings) -> str:
    """Statistics of the stores → plan.json."""
    return work("plan", settings)


@dataset_flow
def patch(settings: RunSettings) -> str:
    """Volume stores → patch store."""
    return work("patch", settings)


@dataset_flow
def train(settings: RunSettings) -> str:
    """Patches → model."""
    return work("train", settings)


@dataset_flow
def predict(settings: RunSettings) -> str:
    """Volume stores and model → mask stores."""
    return work("predict", settings)


@dataset_flow
def score(settings: RunSettings) -> str:
    """Masks and truth → scores.json."""
    return work("score", settings)


@dataset_flow
def report(settings: RunSettings) -> str:
    """Scores, masks and training curve → one HTML page."""
    return work("report", settings)
