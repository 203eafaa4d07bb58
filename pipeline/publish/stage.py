"""Mask stores → a published version, in one step for whoever reads it.

A version is built under a temporary name, renamed, and only then named by ``current``. A run that
is killed in between leaves ``current`` as it was, and the next one goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from errno import EMLINK, ENOTSUP, EPERM, EXDEV
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import CaseError, NothingUsableError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent
from pipeline.io.files import point, remove_tree, write_json
from pipeline.io.manifest import read_manifest, read_quarantine
from pipeline.io.mask_store import MaskStore
from pipeline.io.store import published_key
from pipeline.model_file import ModelCard
from pipeline.publish.settings import PublishSettings
from pipeline.publish.version import (
    CURRENT,
    INDEX,
    PublishedMask,
    Version,
    content_key,
    current_version,
    numbers,
    version_name,
)

STAGE = "publish"
COMPANIONS = ("objects", "probabilities")
UNLINKABLE = (EXDEV, EPERM, ENOTSUP, EMLINK)
"""Errors of file systems that cannot link one file to another."""


@dataclass(frozen=True)
class MaskToPublish:
    """A mask whose labels are to be counted."""

    case: str
    """Case id."""
    mask: Path
    """Its store."""
    classes: int
    """Number of labels, K."""


@dataclass(frozen=True)
class Publication:
    """What publishing now would make."""

    version: Version
    """The version as it would be, or the current one where nothing has changed."""
    is_new: bool
    """Whether it differs from the current one."""
    masks: Path
    """Folder of the masks it is made of."""


def count_labels(task: MaskToPublish) -> list[int]:
    """Voxels of each label of a mask; memory of one shard at a time.

    Raises:
        CaseError: The mask holds a label that its model does not know.
    """
    mask = MaskStore(task.mask)
    total = np.zeros(task.classes, np.int64)
    for window in mask.windows():
        found = np.bincount(mask.read(window).ravel(), minlength=task.classes + 1)
        nodata = int(mask.attributes["nodata"])
        if found[task.classes : nodata].any():
            raise CaseError(
                f"its mask holds labels above {task.classes - 1}.", "Delete it and predict again."
            )
        total += found[: task.classes]
    return [int(n) for n in total]


def plan_publish(
    execute: ExecuteSettings,
    *,
    run_name: str,
    card: ModelCard,
    manifest: Path,
    quarantine: Path,
    masks: Path,
    folder: Path,
    progress: Progress = silent,
) -> Publication:
    """Say what the next version would hold; nothing is written.

    Masks of complete cases that no stage has refused belong to it. Labels of masks that the
    current version has are not counted again.

    Args:
        execute: Where tasks run.
        run_name: Stands in the index.
        card: Of the model whose masks are published.
        manifest: The cases.
        quarantine: The refused cases.
        masks: Folder of the model's masks.
        folder: Of the versions.
        progress: Told of every counted mask.

    Raises:
        NothingUsableError: There is no mask.
    """
    rows = read_manifest(manifest)
    reasons = {row.case: f"quarantined: {row.reason}" for row in read_quarantine(quarantine)}
    reasons |= {row.id: "its files are gone" for row in rows if row.status == "vanished"}
    keys = {row.id: published_key(masks / f"{row.id}.zarr") for row in rows}
    used = [row for row in rows if row.status == "complete" and row.id not in reasons]
    wanted = [(row, key) for row in used if (key := keys[row.id])]
    if not wanted:
        raise NothingUsableError(f"{masks} holds no mask to publish: run `segflow predict`")
    before = current_version(folder)
    counts = _counts([r.id for r, _ in wanted], keys, before, card, masks, execute, progress)
    made = tuple(
        PublishedMask(row.id, row.split, key, counts.get(row.id), _companions(masks, row.id))
        for row, key in wanted
    )
    if before is not None and content_key(made) == before.key:
        return Publication(before, False, masks)
    version = Version(
        number=max(numbers(folder), default=0) + 1,
        run=run_name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model={"id": card.model_id, "weights_sha256": card.weights_sha256},
        classes={c.name: c.label for c in card.plan.label_classes} if counts else {},
        masks=made,
    )
    return Publication(_compared(version, before, reasons), True, masks)


def _companions(masks: Path, case: str) -> tuple[str, ...]:
    return tuple(name for name in COMPANIONS if published_key(masks / name / f"{case}.zarr"))


def _counts(
    cases: Sequence[str],
    keys: Mapping[str, str | None],
    before: Version | None,
    card: ModelCard,
    masks: Path,
    execute: ExecuteSettings,
    progress: Progress,
) -> dict[str, tuple[int, ...]]:
    """Voxels of each label, by case; of a regression nothing."""
    classes = len(card.plan.classes)
    if not classes:
        return {}
    known = {m.case: m for m in before.masks} if before is not None else {}
    counts = {
        case: counted
        for case in cases
        if case in known and known[case].key == keys[case] and (counted := known[case].class_voxels)
    }
    tasks = [MaskToPublish(c, masks / f"{c}.zarr", classes) for c in cases if c not in counts]
    # Labels are read ten times faster than a worker starts.
    here = execute.model_copy(update={"on": "serial"}) if execute.on == "local" else execute
    for number, done in enumerate(run_tasks(count_labels, tasks, here), start=1):
        if done.row is None:
            raise NothingUsableError(f"the mask of {done.task.case} is not whole: {done.error}")
        counts[done.task.case] = tuple(done.row)
        progress(STAGE, number, len(tasks), done.task.case)
    return counts


def _compared(version: Version, before: Version | None, reasons: Mapping[str, str]) -> Version:
    """The version with what changed since the one before."""
    old = {m.case: m.key for m in before.masks} if before is not None else {}
    new = {m.case: m.key for m in version.masks}
    return replace(
        version,
        added=tuple(case for case in new if case not in old),
        changed=tuple(case for case in new if case in old and new[case] != old[case]),
        removed={c: reasons.get(c, "it has no mask any more") for c in old if c not in new},
    )


def publish(
    settings: PublishSettings,
    publication: Publication,
    *,
    folder: Path,
    scores: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> Path:
    """Make a planned version the current one, and remove the oldest beyond ``settings.keep``.

    Args:
        settings: How many versions are kept.
        publication: What ``plan_publish`` said.
        folder: Of the versions.
        scores: Of the version's masks, for its ``scores.json``.
        progress: Told of every mask.

    Returns:
        The version's folder.
    """
    version = publication.version
    final = folder / version.name
    if publication.is_new:
        partial = folder / f".{version.name}.partial"
        remove_tree(partial)
        total = len(version.masks)
        for number, mask in enumerate(version.masks, start=1):
            for place in ("", *mask.companions):
                store = Path(place) / f"{mask.case}.zarr"
                link_tree(publication.masks / store, partial / store)
            progress(STAGE, number, total, mask.case)
        if scores is not None:
            write_json(partial / "scores.json", scores)
        write_json(partial / INDEX, version.to_json())
        os.replace(partial, final)
        point(folder / CURRENT, version.name)
    _prune(folder, version.number, settings.keep)
    return final


def link_tree(source: Path, target: Path) -> None:
    """Give a folder's files a second name in another; copy them where that cannot be.

    A store is never written to once it is published, but replaced as a whole: its second names
    keep the bytes that they were made with.
    """
    target.mkdir(parents=True)
    with os.scandir(source) as entries:
        for entry in entries:
            place = target / entry.name
            if entry.is_dir():
                link_tree(Path(entry.path), place)
                continue
            try:
                os.link(entry.path, place)
            except OSError as error:
                if error.errno not in UNLINKABLE:
                    raise
                shutil.copy2(entry.path, place)


def _prune(folder: Path, current: int, keep: int) -> None:
    """Remove the oldest versions beyond a number, and what killed runs have left."""
    for litter in folder.glob(".v*.partial"):
        remove_tree(litter)
    for number in numbers(folder)[:-keep]:
        if number != current:
            remove_tree(folder / version_name(number))
