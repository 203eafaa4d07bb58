"""How far a run is, from its small files alone: no voxel is read.

A product is stale where what it was made from has changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from flows.summary import counted
from pipeline.errors import CaseError, SettingsError, StoreError
from pipeline.ingest.evidence import quick_evidence, root_of, same_files, store_key
from pipeline.io.discover import CaseFiles, discover
from pipeline.io.files import read_json, read_jsonl
from pipeline.io.manifest import ManifestRow, read_manifest, read_quarantine
from pipeline.io.mask_store import MaskStore
from pipeline.io.store import published_key
from pipeline.predict import PROGRESS
from pipeline.publish import current_version
from pipeline.report.words import when
from pipeline.run import RunDir, RunSettings, Stage
from pipeline.score import headline

State = Literal["done", "stale", "partly done", "not yet done", "damaged"]


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is."""

    stage: Stage
    """The stage."""
    state: State
    """Whether its product stands, and is of the files as they are now; whether it is of these very
    settings is for the stage itself to say."""
    detail: str
    """Numbers, and where to look."""


@dataclass(frozen=True)
class LastNight:
    """The last night of a run, and the version that stands after it."""

    started: str
    """When, ISO 8601."""
    state: str
    """How it ended."""
    sentence: str
    """The night in a line."""
    version: str | None = None
    """The version that stands; None before the first."""
    published: str | None = None
    """When that one was published, ISO 8601."""
    nights_since: int | None = None
    """Nights that have published nothing since then."""
    problem: str = ""
    """Why the version that stands cannot be read."""

    @property
    def lines(self) -> list[str]:
        """The same for people."""
        return [f"last night, {when(self.started)}: {self.sentence}", *self._standing()]

    def _standing(self) -> list[str]:
        if self.version is None or self.published is None:
            return [self.problem or "no version is published yet"]
        if not self.nights_since:
            return []
        since = counted(self.nights_since, "night")
        return [f"nothing published for {since}: {self.version} of {when(self.published)} stands"]


def read_night(run: RunDir) -> LastNight | None:
    """The last night of a run; None where there was none.

    Raises:
        StoreError: The file of the nights is damaged; the message names it.
    """
    nights = read_jsonl(run.nights)
    if not nights:
        return None
    night = LastNight(**{name: nights[-1][name] for name in ("started", "state", "sentence")})
    try:
        version = current_version(run.published)
    except StoreError as error:
        return replace(night, problem=str(error))
    if version is None:
        return night
    # The index, not the rows: a night may publish and then fail at its report.
    since = sum(_second(row["started"]) > _second(version.created) for row in nights)
    return replace(night, version=version.name, published=version.created, nights_since=since)


def _second(moment: str) -> datetime:
    """A moment without what is below a second, which versions do not write down."""
    return datetime.fromisoformat(moment).replace(microsecond=0)


def read_status(settings: RunSettings) -> list[StageStatus]:
    """The stages of a run, in order; a file of it that is damaged hides no other stage."""
    return [StageStatus(stage, *_looked(look, settings)) for stage, look in LOOKS.items()]


def _looked(look: Look, settings: RunSettings) -> tuple[State, str]:
    try:
        return look(settings, settings.dir)
    except StoreError as error:
        return "damaged", str(error)


def _ingest(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    rows = read_manifest(run.manifest)
    if not rows:
        stores = len(list(run.volumes.glob("*.zarr")))
        return ("partly done", f"{stores} volume stores") if stores else ("not yet done", "")
    complete = sum(row.status == "complete" for row in rows)
    refused = len({row.case for row in read_quarantine(run.quarantine)})
    parts = [f"{complete} of {len(rows)} cases"]
    if refused:
        parts.append(f"{refused} quarantined: see {run.quarantine}")
    changes = _changes(settings, rows)
    if changes:
        parts.append(f"{', '.join(changes)} since: run segflow ingest")
    vanished = sum(row.status == "vanished" for row in rows)
    if vanished:
        parts.append(f"the files of {vanished} are gone, their stores are kept and not used")
    return "stale" if changes else "done", ", ".join(parts)


def _changes(settings: RunSettings, rows: Sequence[ManifestRow]) -> list[str]:
    """How the dataset differs from what was taken in, in words."""
    try:
        found = {files.case: files for files in discover(settings.data)}
    except (SettingsError, OSError) as error:
        return [f"the dataset cannot be looked at ({error})"]
    known = {row.id: row for row in rows if row.status != "vanished"}
    complete = [row for row in known.values() if row.status == "complete" and row.id in found]
    counts = {
        "changed": sum(_changed(found[row.id], row, settings) for row in complete),
        "new": len(found.keys() - {row.id for row in rows}),
        "gone": len(known.keys() - found.keys()),
        "back": len(found.keys() & ({row.id for row in rows} - known.keys())),
    }
    return [f"{counted(n)} {what}" for what, n in counts.items() if n]


def _changed(files: CaseFiles, row: ManifestRow, settings: RunSettings) -> bool:
    """Whether a case's files, or what the settings make of them, are not what was taken in."""
    try:
        seen = quick_evidence(files, root_of(settings.data))
    except CaseError:
        return True
    if not same_files(seen, row.sources):
        return True
    return store_key(files, row.sources, settings.data) != row.key


def _plan(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    if not run.plan.exists():
        return "not yet done", ""
    plan = read_json(run.plan)
    return "done", f"{plan['ndim']}-D, patches of {tuple(plan['patch_shape'])}: {run.plan}"


def _patch(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    if published_key(run.patches) is not None:
        return "done", str(run.patches)
    shards = len(read_jsonl(run.ledger / "patch.jsonl"))
    return ("partly done", f"{shards} shards") if shards else ("not yet done", "")


def _train(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    finished = run.checkpoints / "train.json"
    if finished.exists():  # it goes when work begins
        card = read_json(finished)
        found = card["val_score"]
        name = "R²" if settings.data.task == "regression" else "Dice"
        shown = "" if found is None else f", validation {name} {found:.4f}"
        return "done", f"model {card['model_id']}{shown}"
    logs = [read_jsonl(path) for path in run.training_logs.values()]
    steps = sum(log[-1]["step"] for log in logs if log)
    return ("partly done", f"{steps} steps") if steps else ("not yet done", "")


def _predict(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    card = run.model.with_suffix(".json")
    if not card.exists():
        return "not yet done", ""
    folder = run.predictions / read_json(card)["model_id"]
    refused = {row.case for row in read_quarantine(run.quarantine)}
    wanted = {
        row.id: row
        for row in read_manifest(run.manifest)
        if row.split in settings.predict.splits
        and row.status == "complete"
        and row.id not in refused
    }
    made = wanted.keys() & {path.stem for path in folder.glob("*.zarr")}
    going = run.ledger / PROGRESS
    pieces = read_json(going) if going.exists() else None
    told = "" if pieces is None else f", {pieces['done']} of {pieces['total']} pieces"
    if not made:
        return ("partly done", f"no mask yet{told}") if told else ("not yet done", "")
    detail = f"{len(made)} of {len(wanted)}{told}: {folder}"
    stale = sum(_is_stale(folder / f"{case}.zarr", wanted[case]) for case in made)
    if stale:
        return "stale", f"{detail}; {counted(stale, 'mask')} stale: run segflow predict"
    return ("done" if len(made) == len(wanted) else "partly done"), detail


def _is_stale(mask: Path, row: ManifestRow) -> bool:
    """Whether a mask was made from another version of its case's volume."""
    try:
        return MaskStore(mask).attributes.get("volume") != row.key
    except StoreError:
        return True


def _score(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    if not run.scores.exists():
        return "not yet done", ""
    return "done", f"{headline(read_json(run.scores)) or 'no held-out case'}: {run.scores}"


def _report(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    return ("done", str(run.report)) if run.report.exists() else ("not yet done", "")


Look = Callable[[RunSettings, RunDir], tuple[State, str]]
LOOKS: dict[Stage, Look] = {
    "ingest": _ingest,
    "plan": _plan,
    "patch": _patch,
    "train": _train,
    "predict": _predict,
    "score": _score,
    "report": _report,
}
