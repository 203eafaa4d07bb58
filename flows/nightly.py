"""The nightly flow: what has come is taken in, predicted, scored, compared and published."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import steps
from flows.steps import RETRIES, alone, dataset_flow, may_pass
from flows.summary import night_markdown
from flows.told import name_run, show, tell_published, tell_quarantined
from pipeline.run import RunSettings
from pipeline.run.night import (
    STEPS,
    Night,
    Step,
    begin_night,
    end_night,
    fail_night,
    step_line,
    steps_left,
)


@dataset_flow
def nightly(settings: RunSettings) -> State[str]:
    """Bring a dataset's published masks up to date; where nothing is new, say so within seconds.

    The promoted model predicts; before the first promotion, the model of the run's training. What a
    night did is told by the name and the message of its run, which is then Completed: the version
    it has published, or that nothing was new, and how many cases are quarantined. A night that
    meets another segflow at work in the run steps aside, and is Cancelled.

    Args:
        settings: The run, as in run.yaml.
    """
    return alone(settings, _night)


def _night(settings: RunSettings) -> State[str]:
    night, done = begin_night(settings), list[Step]()
    try:
        while left := steps_left(night, done):
            name = left[0]
            night = night_task.with_options(name=name)(name, night, settings)
            done.append(name)
    except BaseException as error:  # Prefect's cancellation is one
        failed = fail_night(settings, night, error)
        tell_quarantined(settings.name, failed.newly_refused)
        raise
    night = end_night(settings, night)
    line, folder = night.sentence(), settings.dir.published
    show(settings.name, line, night_markdown(night, settings.dir))
    tell_quarantined(settings.name, night.newly_refused)
    if night.publication is not None:
        is_new = night.state == "published"
        tell_published(settings.name, night.publication.version, folder, is_new)
    name_run(f"{settings.name}: {short(night)}")
    return Completed(message=line, data=line)


@task(cache_policy=NO_CACHE, task_run_name="{name}", retry_condition_fn=may_pass, **RETRIES)
def night_task(name: Step, night: Night, settings: RunSettings) -> Night:
    """Run one step of a night."""
    with steps.step(name, settings.name) as progress:
        night = STEPS[name](night, settings, progress)
    steps.ended(name, step_line(name, night))
    return night


def short(night: Night) -> str:
    """A night in a few words, for lists of runs."""
    version = night.publication.version.name if night.publication is not None else ""
    parts = [f"published {version}" if night.state == "published" else f"nothing new, {version}"]
    if night.refused:
        parts.append(f"{len(night.refused)} quarantined")
    return ", ".join(parts)
