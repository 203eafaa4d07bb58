"""The retraining flow: train on what the dataset holds by now, and let the better model serve."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.stages import run_stage_task
from flows.steps import RETRIES, alone, dataset_flow, ended, may_pass, step
from flows.summary import decision_markdown
from flows.told import name_run, show
from pipeline.promotion import Decision
from pipeline.run import RunSettings
from pipeline.run.retraining import LEARNING, judge


@dataset_flow
def retrain(settings: RunSettings) -> State[str]:
    """Train a new model; it serves the nights from now on if it is not worse on held-out cases.

    The run's name and message say which of the two serves from now on, and why. A retraining that
    meets another segflow at work in the run steps aside, and is Cancelled. The former model serves
    until the very end.

    Args:
        settings: The run, as in run.yaml.
    """
    return alone(settings, _retrain)


def _retrain(settings: RunSettings) -> State[str]:
    for stage in LEARNING:
        run_stage_task.with_options(name=stage)(stage, settings)
    decision = judge_task(settings)
    show(settings.name, decision.sentence, decision_markdown(decision))
    name_run(f"{settings.name}: {'promoted' if decision.promoted else 'kept the former model'}")
    return Completed(message=decision.sentence, data=decision.sentence)


@task(name="judge", cache_policy=NO_CACHE, retry_condition_fn=may_pass, **RETRIES)
def judge_task(settings: RunSettings) -> Decision:
    """Score both models on the held-out cases, and promote the better."""
    with step("judge", settings.name) as progress:
        decision = judge(settings, progress)
    ended("judge", decision.sentence)
    return decision
