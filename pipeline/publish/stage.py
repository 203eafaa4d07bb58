"""Mask stores → a published version, in one step for whoever reads it.

A version is built under a temporary name, renamed, and only then named by ``current``. A run that
is killed in between leaves ``current`` as it was, and the next one goes on.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from errno import EMLINK, ENOTSUP, EPERM, EXDEV
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import CaseError, NothingUsableError, SettingsError, StoreError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent
from pipeline.io.files import point, remove_tree, write_json
from pipeline.io.manifest import ManifestRow, QuarantineRow, read_manifest, read_quarantine
from pipeline.io.mask_store import MaskStore
from pipeline.io.store import published_attributes, published_key
from pipeline.model_file import ModelCard
from pipeline.publish.settings import PublishSettings
from pipeline.publish.stac import item_name, write_collection, write_item
from pipeline.publish.version import (
    CURRENT,
    INDEX,
    PublishedMask,
    Version,
    content_key,
    current_version,
    numbers,
    read_version,
    version_name,
    versions_of,
)

logger = logging.getLogger(__name__)
STAGE = "publish"
MANY = 64
"""Masks above which workers count the labels."""
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
    """Folder of the model's masks."""
    before: Version | None = None
    """The current version."""


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

    Masks of complete cases that were not refused belong to it. A case whose prediction has failed
    tonight, or whose truth has turned bad, keeps the published mask of the same image: what says
    nothing against a mask takes none away.
    Labels of masks that the current version has are not counted again.

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
        SettingsError: Another run publishes in the folder.
        StoreError: ``current`` is no link.
    """
    before = _before(folder)
    if before is not None and before.run != run_name:
        raise SettingsError(
            f"publish.folder {folder} holds versions of run {before.run}: name another for "
            f"{run_name}"
        )
    found = _Masks(read_manifest(manifest), read_quarantine(quarantine), masks, before)
    counts, unreadable = _counts(found, card, execute, progress)
    made = found.published(counts, unreadable)
    if not made:
        raise NothingUsableError(f"{masks} holds no mask to publish: run `segflow predict`")
    if before is not None and content_key(made) == before.key:
        return Publication(before, False, masks, before)
    version = Version(
        number=max(numbers(folder), default=0) + 1,
        run=run_name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model={"id": card.model_id, "weights_sha256": card.weights_sha256},
        classes={c.name: c.label for c in card.plan.label_classes} if card.plan.classes else {},
        masks=made,
    )
    reasons = found.reasons | unreadable
    return Publication(_compared(version, before, reasons), True, masks, before)


def _before(folder: Path) -> Version | None:
    """The current version; a damaged index costs the comparison with it, and no night."""
    try:
        return current_version(folder)
    except StoreError as error:
        if not (folder / CURRENT).is_symlink():
            raise
        logger.warning("all masks are published anew: %s", error)
        return None


class _Masks:
    """Which masks a version is made of.

    Args:
        rows: The cases.
        refused: The refused ones.
        masks: Folder of the model's masks.
        before: The current version.
    """

    def __init__(
        self,
        rows: Sequence[ManifestRow],
        refused: Sequence[QuarantineRow],
        masks: Path,
        before: Version | None,
    ) -> None:
        self.masks = masks
        self.before = before
        self.known = {m.case: m for m in before.masks} if before is not None else {}
        # That a mask could not be scored says nothing against it.
        told = {r.case: r for r in refused if r.stage != "score"}
        self.reasons = {case: f"quarantined: {row.reason}" for case, row in told.items()}
        self.reasons |= {row.id: "its files are gone" for row in rows if row.status == "vanished"}
        self.fresh: dict[str, tuple[ManifestRow, str]] = {}
        self.kept: dict[str, PublishedMask] = {}
        for row in rows:
            if row.id in told and row.status != "vanished":
                self._keep(row, told[row.id])
            if row.status != "complete" or row.id in self.reasons:
                continue
            about = published_attributes(masks / f"{row.id}.zarr")
            if about and about.get("volume") == row.key:
                self.fresh[row.id] = row, about["key"]
            elif about:
                self.reasons[row.id] = "its mask is of an earlier image, and no other was made"

    def _keep(self, row: ManifestRow, refused: QuarantineRow) -> None:
        """Keep the published mask of the same image."""
        held = self.known.get(row.id)
        if held is None or self.before is None or refused.stage not in ("ingest", "predict"):
            return
        if held.volume == row.key:
            self.kept[row.id] = replace(held, kept_from=held.kept_from or self.before.name)

    def published(
        self, counts: Mapping[str, tuple[int, ...]], unreadable: Mapping[str, str]
    ) -> tuple[PublishedMask, ...]:
        """The masks of the version, ordered by case."""
        made = dict(self.kept)
        for case, (row, key) in self.fresh.items():
            if case not in unreadable:
                beside = _companions(self.masks, case)
                made[case] = PublishedMask(case, row.split, key, row.key, counts.get(case), beside)
        return tuple(made[case] for case in sorted(made))


def _companions(masks: Path, case: str) -> tuple[str, ...]:
    return tuple(name for name in COMPANIONS if published_key(masks / name / f"{case}.zarr"))


def _counts(
    found: _Masks, card: ModelCard, execute: ExecuteSettings, progress: Progress
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Voxels of each label, by case, nothing of a regression; and what cannot be read, and why."""
    classes = len(card.plan.classes)
    if not classes:
        return {}, {}
    counts = {
        case: counted
        for case, (_, key) in found.fresh.items()
        if (held := found.known.get(case)) and held.key == key and (counted := held.class_voxels)
    }
    left = [case for case in found.fresh if case not in counts]
    tasks = [MaskToPublish(c, found.masks / f"{c}.zarr", classes) for c in left]
    # Labels of small masks are read faster than a worker starts.
    many = len(tasks) > MANY and execute.on == "local"
    place = execute if many or execute.on != "local" else _here(execute)
    unreadable = {}
    for number, done in enumerate(run_tasks(count_labels, tasks, place), start=1):
        case = done.task.case
        if done.row is None:
            unreadable[case] = f"its mask cannot be read, delete {done.task.mask}: {done.error}"
        else:
            counts[case] = tuple(done.row)
        progress(STAGE, number, len(tasks), case)
    return counts, unreadable


def _here(execute: ExecuteSettings) -> ExecuteSettings:
    return execute.model_copy(update={"on": "serial"})


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
        settings: How many versions are kept, and how much may go at once.
        publication: What ``plan_publish`` said.
        folder: Of the versions.
        scores: Of the version's masks, for its ``scores.json``.
        progress: Told of every mask.

    Returns:
        The version's folder.

    Raises:
        StoreError: More masks would be gone than the settings allow.
    """
    version = publication.version
    final = folder / version.name
    if publication.is_new:
        _refuse_loss(settings, publication)
        if not _stands(final, version):
            _build(publication, folder, final, scores, progress)
        point(folder / CURRENT, version.name)
    try:
        _prune(folder, version, settings.keep)
    except OSError as error:  # the version stands
        logger.warning("old versions in %s could not be removed: %s", folder, error)
    return final


def _refuse_loss(settings: PublishSettings, publication: Publication) -> None:
    """Refuse a version that lacks too many masks of the current one."""
    removed = publication.version.removed
    held = len(publication.before.masks) if publication.before is not None else 0
    if len(removed) > max(settings.most_removed * held, 1):
        case, why = next(iter(removed.items()))
        raise StoreError(
            f"{len(removed)} of {held} published masks would be gone ({case}: {why}): see that the "
            "data is where it was, or set publish.most_removed to 1 if they are to go"
        )


def _stands(final: Path, version: Version) -> bool:
    """Whether a try before has built this very version."""
    try:
        return read_version(final).key == version.key
    except StoreError:
        return False


def _build(
    publication: Publication,
    folder: Path,
    final: Path,
    scores: dict[str, Any] | None,
    progress: Progress,
) -> None:
    """Build a version under a temporary name, and give it its own."""
    version = publication.version
    partial = folder / f".{version.name}.partial"
    remove_tree(partial)
    remove_tree(final)  # of a try before; nothing names it
    for number, mask in enumerate(version.masks, start=1):
        source = _source(publication, mask, folder)
        for place in ("", *mask.companions):
            store = Path(place) / f"{mask.case}.zarr"
            link_tree(source / store, partial / store)
        if (item := source / item_name(mask.case)).is_file():
            link_file(item, partial / item.name)
        else:
            write_item(partial, mask, version)
        progress(STAGE, number, len(version.masks), mask.case)
    if scores is not None:
        write_json(partial / "scores.json", scores)
    write_collection(partial, version)
    write_json(partial / INDEX, version.to_json())
    os.replace(partial, final)


def _source(publication: Publication, mask: PublishedMask, folder: Path) -> Path:
    """Where a mask's files are: in the version before if they are there, on its disk already."""
    before = publication.before
    held = {m.case: m for m in before.masks}.get(mask.case) if before is not None else None
    if before is not None and held is not None:
        same = (held.key, held.companions) == (mask.key, mask.companions)
        if same and published_key(folder / before.name / f"{mask.case}.zarr") == mask.key:
            return folder / before.name
    return publication.masks


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
            else:
                link_file(Path(entry.path), place)


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where that cannot be."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in UNLINKABLE:
            raise
        shutil.copy2(source, target)


def _prune(folder: Path, current: Version, keep: int) -> None:
    """Remove a run's oldest versions beyond a number, and what killed runs have left."""
    for litter in folder.glob(".v*.partial"):
        remove_tree(litter)
    for number in versions_of(folder, current.run)[:-keep]:
        if number != current.number:
            remove_tree(folder / version_name(number))
