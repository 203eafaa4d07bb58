"""The end-to-end flow: a dataset in, masks, scores and a report out."""

from __future__ import annotations

import re

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.stages import work
from flows.summary import markdown, verdict
from pipeline.errors import SettingsError
from pipeline.run import STAGES, RunSettings, Stage


@flow(flow_run_name="{settings.name}")
def segment(settings: RunSettings, first: Stage = "ingest", last: Stage = "report") -> State[str]:
    """Run the stages from ``first`` to ``last``; what is done already is not done again.

    Args:
        settings: The run, as in run.yaml.
        first: Stage to begin with.
        last: Stage to end with.
    """
    for stage in stages_between(first, last):
        run_stage_task.with_options(name=stage)(stage, settings)
    create_markdown_artifact(
        key=artifact_key(settings.name),
        markdown=markdown(settings.dir, last),
        description=f"Result of run {settings.name}",
    )
    line = verdict(settings.dir, last)
    return Completed(message=line, data=line)


# No cache: what is done already is known to the ledger beside the stores, which outlives Prefect's
# database. No retries: a stage sets bad input aside, and what stops it now would stop it again.
@task(cache_policy=NO_CACHE, task_run_name="{stage}", retries=0)
def run_stage_task(stage: Stage, settings: RunSettings) -> str:
    """Run one stage."""
    return work(stage, settings)


def stages_between(first: Stage, last: Stage) -> tuple[Stage, ...]:
    """The stages from one to another, in order.

    Raises:
        SettingsError: The last comes before the first.

    Example:
        >>> stages_between("patch", "predict")
        ('patch', 'train', 'predict')
    """
    a, b = STAGES.index(first), STAGES.index(last)
    if a > b:
        raise SettingsError(f"stage {last} comes before {first}: the order is {', '.join(STAGES)}")
    return STAGES[a : b + 1]


def artifact_key(name: str) -> str:
    """The run's key among Prefect's artifacts: lower case, digits and dashes.

    Example:
        >>> artifact_key("Hippo_2.1")
        'segflow-hippo-2-1'
    """
    return "segflow-" + re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
