"""The night of a dataset: what has come is taken in, predicted, scored, compared and published.

A night is keyed on content, never on the date: where nothing is new it says so within seconds, and
a night that was missed, killed or started twice leaves nothing for the next one to mend.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from pipeline.drift import Flag, find_drift, measure
from pipeline.errors import CaseError, ModelError, NothingUsableError, SegflowError, StoreError
from pipeline.execute import Progress, silent
from pipeline.io.files import read_json, read_jsonl, remove_tree, write_jsonl
from pipeline.io.manifest import ManifestRow, read_manifest, read_quarantine
from pipeline.model_file import ModelCard, read_card
from pipeline.promotion import decide, now, promote, serving_card, trained_card
from pipeline.publish import Publication, plan_publish, publish
from pipeline.run.folder import RunDir
from pipeline.run.night.record import Night, Refused, counted
from pipeline.run.reference import reference_of
from pipeline.run.settings import RunSettings
from pipeline.run.stages import record_settings, work_in
from pipeline.score import headline

logger = logging.getLogger(__name__)
Step = Literal["ingest", "predict", "compare", "score", "publish", "report"]
MOST_NIGHTS = 1000
"""Nights that ``nights.jsonl`` remembers."""


def begin_night(settings: RunSettings) -> Night:
    """A night before its first step.

    Raises:
        ModelError: No model can serve.
    """
    run = settings.dir
    record_settings(settings)
    _first_promotion(settings)
    known = {row.id: (row.status, row.key) for row in read_manifest(run.manifest)}
    card = _serving(run)
    return Night(started=now(), known=known, model=card.model_id)


def _first_promotion(settings: RunSettings) -> None:
    """Let the run's trained model serve where none does yet."""
    run = settings.dir
    if serving_card(run.promoted) is not None:
        return
    if not run.trained.exists():
        raise ModelError(
            f"{run.root} has no model that a night could predict with: train one first, with "
            "`segflow run`"
        )
    card = trained_card(run.trained)
    promote(run.trained, run.promoted, decide(settings.promote, card, None, None, None))


def _serving(run: RunDir) -> ModelCard:
    return read_card(run.serving.model)


def _ingest(night: Night, settings: RunSettings, progress: Progress) -> Night:
    """Take in what has come, changed or gone."""
    run = settings.dir
    work_in(run, "ingest", settings, progress)
    rows = [row for row in read_manifest(run.manifest) if row.status != "quarantined"]
    became = {row.id: _became(row, night.known.get(row.id)) for row in rows}

    def those(what: str) -> tuple[str, ...]:
        return tuple(case for case, word in became.items() if word == what)

    new, changed, vanished = those("new"), those("changed"), those("vanished")
    return replace(night, new=new, changed=changed, vanished=vanished)


def _became(row: ManifestRow, before: tuple[str, str] | None) -> str:
    """What has become of a case: new, changed, vanished, or nothing."""
    if before is None or before[0] != "complete":
        return "new" if row.status == "complete" else ""
    if row.status == "vanished":
        return "vanished"
    return "changed" if row.key != before[1] else ""


def _predict(night: Night, settings: RunSettings, progress: Progress) -> Night:
    """Predict what has no mask of the promoted model yet."""
    work_in(settings.dir.serving, "predict", settings, progress)
    return night


def _compare(night: Night, settings: RunSettings, progress: Progress) -> Night:
    """Find out what differs from the current version, and from the training cases."""
    publication = _publication(settings, progress)
    drift = _drift(settings, publication) if publication.is_new else ()
    progress("compare", 1, 1, "")
    refused = _refused(settings.dir, night.started)
    told = _was_told(settings.dir, publication)
    return replace(night, publication=publication, refused=refused, drift=drift, told=told)


def _was_told(run: RunDir, publication: Publication) -> bool:
    """Whether a night has ended well with this version: else one was killed after publishing it."""
    name = publication.version.name
    nights = read_nights(run)
    return any(n["version"] == name and n["state"] != "failed" and n["ended"] for n in nights)


def _publication(settings: RunSettings, progress: Progress) -> Publication:
    run, card = settings.dir, _serving(settings.dir)
    return plan_publish(
        settings.execute,
        run_name=settings.name,
        card=card,
        manifest=run.manifest,
        quarantine=run.quarantine,
        masks=run.predictions / card.model_id,
        folder=run.published,
        progress=progress,
    )


def _refused(run: RunDir, tonight: str) -> tuple[Refused, ...]:
    """The quarantined cases, each with the night that first met it."""
    nights = read_nights(run)
    known = nights[-1]["quarantined"] if nights else []
    since = {(row["case"], row["stage"]): row["since"] for row in known}
    return tuple(
        Refused(r.case, r.stage, r.reason, r.remedy, since.get((r.case, r.stage), tonight))
        for r in read_quarantine(run.quarantine)
    )


def _drift(settings: RunSettings, publication: Publication) -> tuple[Flag, ...]:
    """Signs that tonight's cases are not like those the model learnt from."""
    if not settings.drift.enabled:
        return ()
    run, version, card = settings.dir, publication.version, _serving(settings.dir)
    rows = {row.id: row for row in read_manifest(run.manifest)}
    tonight = {*version.added, *version.changed}
    measured: dict[str, dict[str, float]] = {}
    for mask in version.masks:
        if mask.case in tonight and mask.split != "train":
            store = run.volumes / rows[mask.case].store
            try:
                measured[mask.case] = measure(store, mask.class_voxels, card.plan)
            except (CaseError, StoreError) as error:  # its mask is made: drift is a hint, no gate
                logger.warning("%s is not compared with the training cases: %s", mask.case, error)
    return tuple(find_drift(settings.drift, reference_of(run, card), measured))


def _score(night: Night, settings: RunSettings, progress: Progress) -> Night:
    """Score the masks that have truth; a dataset without any is published all the same."""
    publication = night.publication
    if publication is None or all(m.split == "unlabelled" for m in publication.version.masks):
        return night
    scores = None
    try:
        work_in(settings.dir.serving, "score", settings, progress)
        scores = read_json(settings.dir.scores)
    except NothingUsableError as error:  # no mask could be scored: each case says why
        logger.warning("no scores: %s", error)
    return replace(night, scores=scores, refused=_refused(settings.dir, night.started))


def _publish(night: Night, settings: RunSettings, progress: Progress) -> Night:
    """Make tonight's masks the current version."""
    run, publication = settings.dir, night.publication
    if publication is None:
        raise SegflowError("nothing has been compared: run the steps of a night in order")
    folder = publish(
        settings.publish, publication, folder=run.published, scores=night.scores, progress=progress
    )
    return replace(night, published=folder, state="published")


def _report(night: Night, settings: RunSettings, progress: Progress) -> Night:
    """Write the run's report, with this night in it."""
    _remember(settings.dir, night)
    work_in(settings.dir.serving, "report", settings, progress)
    return night


STEPS: dict[Step, Callable[[Night, RunSettings, Progress], Night]] = {
    "ingest": _ingest,
    "predict": _predict,
    "compare": _compare,
    "score": _score,
    "publish": _publish,
    "report": _report,
}


def steps_left(night: Night, done: Sequence[Step]) -> list[Step]:
    """The steps still to do: after the comparison none, where nothing has changed.

    A case that was quarantined tonight, with nothing else new, is told by the report alone; one
    that could not be scored before is tried again.
    """
    left = [step for step in STEPS if step not in done]
    if "compare" not in done or not night.is_quiet:
        return left
    wanted = ["report"] if night.newly_refused else []
    if any(r.stage == "score" for r in night.refused) or "score" in done:
        wanted = ["score", "report"]
    return [step for step in left if step in wanted]


def run_night(
    settings: RunSettings,
    progress: Progress = silent,
    ended: Callable[[str, str], None] = lambda step, line: None,
    first: Step = "ingest",
) -> Night:
    """A night from its first step to its last, without Prefect.

    Args:
        settings: The run's.
        progress: Told of every finished task.
        ended: Told of every finished step, with a line.
        first: The step to begin with; ``compare`` publishes the masks that are there.

    Raises:
        BusyError: Another segflow is at work in the run.
        SegflowError: A step cannot end well; what is finished stays finished.
    """
    with settings.dir.locked():
        steps = list(STEPS)
        night, done = begin_night(settings), steps[: steps.index(first)]
        try:
            while left := steps_left(night, done):
                night = STEPS[left[0]](night, settings, progress)
                done.append(left[0])
                ended(left[0], step_line(left[0], night))
        except Exception as error:
            fail_night(settings, night, error)
            raise
        return end_night(settings, night)


def step_line(step: Step, night: Night) -> str:
    """What a step has found, in a line."""
    match step:
        case "ingest":
            counts = (("new", night.new), ("changed", night.changed), ("vanished", night.vanished))
            return (
                ", ".join(f"{len(cases)} {what}" for what, cases in counts if cases) or "no change"
            )
        case "predict":
            return f"by {night.model}"
        case "compare" if night.publication is not None:
            version = night.publication.version
            word = "differs from the version before" if night.publication.is_new else "stands"
            return f"{version.name} {word}; {counted(len(night.drift), 'sign')} of drift"
        case "score":
            return (headline(night.scores) if night.scores is not None else "") or "no truth"
        case "publish":
            return str(night.published)
        case _:
            return "written"


def end_night(settings: RunSettings, night: Night) -> Night:
    """Close a night's row, and tidy up after it."""
    ended = replace(night, ended=now())
    _remember(settings.dir, ended)
    if ended.published_new:
        try:
            remove_superseded(settings.dir, ended)
        except (OSError, SegflowError) as error:  # what was published stands
            logger.warning("masks of former models could not be removed: %s", error)
    return ended


def remove_superseded(run: RunDir, night: Night) -> None:
    """Remove masks of models that were judged once, and neither serve nor were trained last.

    Published versions keep theirs: a file stays as long as one of its names does. Masks of models
    that were never put to the test are somebody's own, and stay too; and all stay while a version
    holds masks of an earlier one.
    """
    if night.publication is None or any(m.kept_from for m in night.publication.version.masks):
        return
    judged = {row["candidate"] for row in read_jsonl(run.promoted / "history.jsonl")}
    used = {read_card(path).model_id for path in (run.trained, run.serving.model) if path.exists()}
    for model_id in judged - used:
        remove_tree(run.predictions / model_id)


def fail_night(settings: RunSettings, night: Night, error: BaseException) -> Night:
    """Close the row of a night that an error, or whoever stopped it, has ended."""
    said = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, Exception):
        said = "it was stopped before its end"
    refused = _refused(settings.dir, night.started)
    return end_night(settings, replace(night, state="failed", error=said, refused=refused))


def read_nights(run: RunDir) -> list[dict[str, Any]]:
    """Rows of the nights; a damaged file is put aside, and costs no night."""
    try:
        return read_jsonl(run.nights)
    except StoreError as error:
        aside = run.nights.with_suffix(".damaged")
        run.nights.replace(aside)
        logger.warning("%s; it is %s now", error, aside)
        return []


def _remember(run: RunDir, night: Night) -> None:
    """Write the night's row in place of what was written of it before.

    The last row lists all quarantined cases, those before it only what their night has met.
    """
    others = [row for row in read_nights(run) if row["started"] != night.started][-MOST_NIGHTS:]
    for row in others:
        row["quarantined"] = [r for r in row["quarantined"] if r["since"] == row["started"]]
    write_jsonl(run.nights, [*others, night.to_json()])
