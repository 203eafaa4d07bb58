"""The stages of a run, in order, and how the run stands after them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.errors import NothingUsableError
from pipeline.execute import Progress, silent
from pipeline.ingest import ingest
from pipeline.io.files import write_atomic
from pipeline.io.manifest import read_manifest, read_quarantine
from pipeline.patches import patch
from pipeline.plan_file import read_plan
from pipeline.planning import plan
from pipeline.predict import Outlook, predict
from pipeline.predict import foresee as foresee_prediction
from pipeline.processor import best_processor
from pipeline.report import report
from pipeline.run.folder import RunDir
from pipeline.run.settings import RunSettings
from pipeline.run.settings_file import dump_settings
from pipeline.score import headline, score
from pipeline.training import train

Stage = Literal["ingest", "plan", "patch", "train", "predict", "score", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Outcome:
    """How a run stands."""

    complete: int
    """Cases whose stores are complete."""
    quarantined: int
    """Refused cases."""

    @property
    def exit_code(self) -> int:
        """0 complete, 3 complete with quarantined cases."""
        return 3 if self.quarantined else 0


def outcome(run: RunDir) -> Outcome:
    """Count complete and refused cases of a run."""
    refused = {row.case for row in read_quarantine(run.quarantine)}
    complete = {row.id for row in read_manifest(run.manifest) if row.status == "complete"}
    return Outcome(len(complete - refused), len(refused))


def run_stage(stage: Stage, settings: RunSettings, progress: Progress = silent) -> str:
    """Run one stage, or find that nothing is left to do.

    Args:
        stage: Its name.
        settings: The run's.
        progress: Told of every finished task.

    Returns:
        One line that says what the stage has made.

    Raises:
        SegflowError: The stage cannot end well; the message says what to do.
    """
    with settings.dir.locked():
        record_settings(settings)
        return work_in(settings.dir, stage, settings, progress)


def record_settings(settings: RunSettings) -> None:
    """Write the resolved settings into the run's folder."""
    write_atomic(settings.dir.settings, dump_settings(settings).encode())


def work_in(run: RunDir, stage: Stage, settings: RunSettings, progress: Progress = silent) -> str:
    """Run a stage on paths that are not all as the settings have them: with another model."""
    with run.locked():
        return WORK[stage](_placed(settings), run, progress)


def _placed(settings: RunSettings) -> RunSettings:
    """The settings with tasks sent to the scheduler of DASK_SCHEDULER_ADDRESS, where one is named.

    What the settings say of another place than this machine's own workers goes before.
    """
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address or settings.execute.on != "local":
        return settings
    execute = settings.execute.model_copy(update={"on": address})
    return settings.model_copy(update={"execute": execute})


def _ingest(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    with run.volumes_locked():
        rows = ingest(
            settings.data,
            settings.ingest,
            settings.execute,
            manifest=run.manifest,
            quarantine=run.quarantine,
            volumes=run.volumes,
            progress=progress,
        )
    splits = {
        s: sum(r.split == s and r.status == "complete" for r in rows)
        for s in ("train", "val", "test", "unlabelled")
    }
    parts = ", ".join(f"{n} {split}" for split, n in splits.items() if n)
    if not splits[settings.score.held_out]:
        parts += f"; none is held out as {settings.score.held_out}, so nothing will be scored"
    return f"{sum(splits.values())} cases ({parts}), {outcome(run).quarantined} quarantined"


def _plan(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    processor = "cpu" if best_processor(2).device == "cpu" else "cuda"
    made = plan(
        settings.data,
        settings.plan,
        manifest=run.manifest,
        volumes=run.volumes,
        path=run.plan,
        processor=processor,
    )
    progress("plan", 1, 1, "")
    unlearnt = f"; {made.reasons['classes']}" if "classes" in made.reasons else ""
    return f"{made.ndim}-D, patches of {made.patch_shape}, {made.batch_size} a step{unlearnt}"


def _patch(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    patch(
        read_plan(run.plan),
        settings.patch,
        settings.execute,
        manifest=run.manifest,
        volumes=run.volumes,
        final=run.patches,
        ledger=run.ledger / "patch.jsonl",
        progress=progress,
    )
    return str(run.patches)


def _train(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    card = train(
        read_plan(run.plan),
        settings.train,
        manifest=run.manifest,
        volumes=run.volumes,
        patches=run.patches,
        checkpoints=run.checkpoints,
        progress=progress,
    )
    found = card.training["val_score"]
    shown = (
        "no validation case" if found is None else f"validation {card.plan.score_name} {found:.4f}"
    )
    return f"model {card.model_id}, {card.training['steps']} steps, {shown}"


def _predict(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    masks = predict(
        settings.predict,
        settings.execute,
        run_name=settings.name,
        model=run.model,
        manifest=run.manifest,
        quarantine=run.quarantine,
        volumes=run.volumes,
        output=run.predictions,
        ledger=run.ledger,
        progress=progress,
    )
    return f"{len(masks)} mask{'s' * (len(masks) > 1)} in {masks[0].parent}"


def foresee(settings: RunSettings) -> Outlook:
    """Say what predicting the run's cases would take; nothing is written.

    Raises:
        NothingUsableError: There is no case.
        ModelError: There is no usable model.
    """
    run = settings.dir
    return foresee_prediction(
        settings.predict,
        settings.execute,
        run_name=settings.name,
        model=run.model,
        manifest=run.manifest,
        volumes=run.volumes,
        output=run.predictions,
    )


def _score(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    scores = score(
        settings.score,
        settings.execute,
        model=run.model,
        manifest=run.manifest,
        quarantine=run.quarantine,
        volumes=run.volumes,
        predictions=run.predictions,
        ledger=run.ledger,
        path=run.scores,
        progress=progress,
    )
    return headline(scores) or "no held-out case to score"


def _report(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    if not run.manifest.exists():
        raise NothingUsableError(f"{run.root} holds nothing to report: run `segflow run` first")
    report(
        settings.report,
        run_name=settings.name,
        model=run.model,
        manifest=run.manifest,
        quarantine=run.quarantine,
        volumes=run.volumes,
        predictions=run.predictions,
        scores=run.scores,
        training_logs=run.training_logs,
        prediction_record=run.ledger / "predict.json",
        nights=run.nights,
        settings_text=dump_settings(settings),
        path=run.report,
    )
    progress("report", 1, 1, "")
    return str(run.report)


WORK: dict[Stage, Callable[[RunSettings, RunDir, Progress], str]] = {
    "ingest": _ingest,
    "plan": _plan,
    "patch": _patch,
    "train": _train,
    "predict": _predict,
    "score": _score,
    "report": _report,
}
