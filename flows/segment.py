"""The end-to-end flow: a dataset in, masks, scores and a report out."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.stages import run_stage_task
from flows.steps import dataset_flow
from flows.summary import markdown, verdict
from flows.told import name_run, show, tell_quarantined
from pipeline.errors import SettingsError
from pipeline.io.manifest import read_quarantine
from pipeline.run import STAGES, RunSettings, Stage


@dataset_flow
def segment(settings: RunSettings, first: Stage = "ingest", last: Stage = "report") -> State[str]:
    """Run the stages from ``first`` to ``last``; what is done already is not done again.

    Args:
        settings: The run, as in run.yaml.
        first: Stage to begin with.
        last: Stage to end with.
    """
    for stage in stages_between(first, last):
        run_stage_task.with_options(name=stage)(stage, settings)
    run = settings.dir
    refused = read_quarantine(run.quarantine)
    tell_quarantined(settings.name, refused)
    line = verdict(run, last)
    show(settings.name, line, markdown(run, last))
    if refused:
        name_run(f"{settings.name}: {len(refused)} quarantined")
    return Completed(message=line, data=line)


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
