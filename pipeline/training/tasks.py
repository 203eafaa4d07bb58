"""What is to be trained: plans the trainings, reads attributes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SettingsError, StoreError, TrainingError
from pipeline.io.files import digest, read_json
from pipeline.io.manifest import ManifestRow, read_manifest
from pipeline.io.patch_store import PatchStore
from pipeline.model_file import read_card
from pipeline.network_tiling import plan_tiling
from pipeline.plan_file import Plan
from pipeline.processor import best_processor
from pipeline.training.loop import TrainTask
from pipeline.training.settings import TrainSettings

VERSION = 2
"""Raised when the same patches would give other weights."""
# What says when training ends, not how it goes on: changed, a training is extended.
LIMITS = {"max_minutes", "max_steps", "max_epochs", "validations", "patience"}
# What changes how training runs but not what it gives; folds are told apart by their cases.
INDIFFERENT = {
    *("augment_on", "bundle", "checkpoint_minutes", "cleanup", "folds", "loader_workers"),
    *("tensorboard", "host", "meet_at", "timeout_minutes"),
}


@dataclass(frozen=True)
class Judges:
    """The cases that judge a training, and what it is called."""

    checkpoints: Path
    """Folder of its checkpoints."""
    rows: tuple[ManifestRow, ...]
    """The cases that choose its best weights."""
    left_out: tuple[str, ...] = ()
    """Those among the training cases that it must not see."""


def plan_train(
    plan: Plan,
    settings: TrainSettings,
    *,
    manifest: Path,
    volumes: Path,
    patches: Path,
    checkpoints: Path,
) -> list[TrainTask]:
    """The training, or one for each fold.

    Raises:
        StoreError: There is no patch store, or it was cut for another plan.
        SettingsError: There is no such fold, or a fold holds all cases.
    """
    store = PatchStore(patches)
    small = any(n < p for n, p in zip(store.attributes["shape"], plan.patch_shape, strict=True))
    if small or store.attributes.get("plan") != plan.patch_key:
        raise StoreError(f"{patches} was cut for another plan: run `segflow patch` again")
    rows = [row for row in read_manifest(manifest) if row.status == "complete"]
    tasks = []
    for judges in _judges(rows, settings, checkpoints):
        count = len(store.numbers(judges.left_out))
        if not count:
            raise SettingsError(
                f"no patch is left to train on beside the cases of {judges.checkpoints.name}: set "
                "ingest.folds to 2 or more, or leave train.folds out"
            )
        tasks.append(_task(plan, settings, store, count, judges, volumes, patches))
    return tasks


def fold_folder(checkpoints: Path, fold: int) -> Path:
    """Folder of the checkpoints of a fold's network."""
    return checkpoints / f"fold-{fold}"


def _judges(
    rows: Sequence[ManifestRow], settings: TrainSettings, checkpoints: Path
) -> list[Judges]:
    most = settings.validation_cases
    if settings.folds is None:
        judging = [row for row in rows if row.split == "val"]
        return [Judges(checkpoints, tuple(judging[:most]))]
    by_fold: dict[int, list[ManifestRow]] = {}
    for row in rows:
        if row.split == "train" and row.fold is not None:
            by_fold.setdefault(row.fold, []).append(row)
    wanted = sorted(by_fold) if settings.folds == "all" else settings.folds
    if strange := [fold for fold in wanted if fold not in by_fold]:
        raise SettingsError(
            f"train.folds: there is no fold {strange[0]}; the training cases are dealt into "
            f"{', '.join(map(str, sorted(by_fold)))}"
        )
    return [
        Judges(
            fold_folder(checkpoints, fold),
            tuple(by_fold[fold][:most]),
            tuple(row.id for row in by_fold[fold]),
        )
        for fold in dict.fromkeys(wanted)
    ]


def _task(
    plan: Plan,
    settings: TrainSettings,
    store: PatchStore,
    count: int,
    judges: Judges,
    volumes: Path,
    patches: Path,
) -> TrainTask:
    if settings.max_epochs is not None:
        steps = max(1, round(settings.max_epochs * count / plan.batch_size))
        steps = min(steps, settings.max_steps or steps)
        settings = settings.model_copy(update={"max_steps": steps, "max_epochs": None})
    recipe = settings.model_dump(mode="json", exclude=INDIFFERENT | LIMITS | {"start_from"})
    if settings.start_from is not None:
        recipe["start_from"] = start_sha256(settings.start_from, judges.checkpoints)
    key = digest(
        VERSION,
        plan.content_key,
        recipe,
        store.key,
        [(row.id, row.key) for row in judges.rows],
        judges.left_out,
    )
    processor = best_processor(plan.ndim, precision=settings.precision)
    return TrainTask(
        key=key,
        limits=settings.model_dump(mode="json", include=LIMITS),
        plan=plan,
        settings=settings,
        patches=patches,
        validation=tuple(volumes / row.store for row in judges.rows),
        checkpoints=judges.checkpoints,
        tiling=plan_tiling(plan, processor.precision),
        left_out=judges.left_out,
    )


def start_sha256(path: Path, checkpoints: Path) -> str:
    """The digest of the weights to begin with; of a finished training, also when they are gone.

    Raises:
        TrainingError: They are this training's own.
        ModelError: There is no such model.
    """
    if path.resolve() == (checkpoints / "best.pt").resolve():
        raise TrainingError(
            "train.start_from is this run's own model: leave it out, and raise train.max_minutes "
            "or train.max_steps to go on"
        )
    finished = checkpoints / "train.json"
    if not path.exists() and finished.exists():
        known = read_json(finished).get("started_from")
        if known is not None:
            return str(known)
    return read_card(path).weights_sha256
