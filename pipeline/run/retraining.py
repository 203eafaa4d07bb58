"""Train on what the dataset holds by now, and let the better model serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

from pipeline.errors import NothingUsableError
from pipeline.execute import Progress, silent
from pipeline.io.files import read_json
from pipeline.promotion import Decision, decide, promote, serving_card, trained_card
from pipeline.run.folder import RunDir
from pipeline.run.reference import reference_of
from pipeline.run.settings import RunSettings
from pipeline.run.stages import Stage, record_settings, work_in

LearningStep = Literal["ingest", "plan", "patch", "train"]
LEARNING: tuple[LearningStep, ...] = get_args(LearningStep)
"""The stages before a new model is judged."""


def retrain(
    settings: RunSettings,
    progress: Progress = silent,
    ended: Callable[[str, str], None] = lambda step, line: None,
) -> Decision:
    """Retrain from the first step to the last, without Prefect.

    Args:
        settings: The run's.
        progress: Told of every finished task.
        ended: Told of every finished step, with a line.

    Raises:
        BusyError: Another segflow is at work in the run.
        SegflowError: A step cannot end well; the model that serves goes on serving.
    """
    with settings.dir.locked():
        record_settings(settings)
        for step in LEARNING:
            ended(step, learn(step, settings, progress))
        decision = judge(settings, progress)
        ended("judge", decision.sentence)
        return decision


def learn(step: Stage, settings: RunSettings, progress: Progress = silent) -> str:
    """Run a step before the judgement; a line says what it has made."""
    return work_in(settings.dir, step, settings, progress)


def judge(settings: RunSettings, progress: Progress = silent, *, anyway: bool = False) -> Decision:
    """Score the model that was trained last beside the one that serves; promote the better.

    Both predict the held-out cases as they are now. The decision and both scores are recorded.

    Args:
        settings: The run's.
        progress: Told of every finished task.
        anyway: Promote the new model whatever its score.

    Raises:
        ModelError: Nothing has been trained.
    """
    run = settings.dir
    with run.locked():
        candidate, serving = trained_card(run.trained), serving_card(run.promoted)
        scores: list[dict[str, Any] | None] = [None, None]
        if serving is not None and serving.weights_sha256 != candidate.weights_sha256:
            sides = {"candidate": run, "serving": run.serving}
            scores = [_scored(settings, side, name, progress) for name, side in sides.items()]
        decision = decide(settings.promote, candidate, serving, *scores)
        if anyway and not decision.promoted and decision.candidate != decision.serving:
            decision = replace(
                decision, promoted=True, reason=f"as asked, though {decision.reason}"
            )
        if decision.promoted:  # measured first: a try that fails has promoted nothing
            reference_of(run, candidate)
        promote(run.trained, run.promoted, decision)
        return decision


def _scored(
    settings: RunSettings, run: RunDir, name: str, progress: Progress
) -> dict[str, Any] | None:
    """Held-out scores of a model, beside the run's own; None where there is no truth."""
    predict = settings.predict.model_copy(update={"splits": (settings.score.held_out,)})
    held_out = settings.model_copy(update={"predict": predict})
    side = replace(run, aside=run.retraining / name)
    try:
        work_in(side, "predict", held_out, progress)
        work_in(side, "score", held_out, progress)
    except NothingUsableError:
        return None
    scores: dict[str, Any] = read_json(side.scores)
    return scores
