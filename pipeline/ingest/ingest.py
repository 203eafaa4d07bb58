"""Source files → volume stores, one task per case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import CaseError, NothingUsableError, SettingsError
from pipeline.execute import Done, ExecuteSettings, Progress, run_tasks, silent
from pipeline.ingest.case import IngestedCase, IngestTask, ingest_case
from pipeline.ingest.deal import deal
from pipeline.ingest.evidence import quick_evidence, root_of, same_files, store_key
from pipeline.ingest.settings import IngestSettings
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CaseFiles, discover
from pipeline.io.location import bucket_of, exists, is_remote
from pipeline.io.manifest import (
    ManifestRow,
    QuarantineRow,
    read_manifest,
    replace_quarantine,
    write_manifest,
)
from pipeline.io.store import published_key

STAGE = "ingest"
HUGE_BYTES = 128 * 2**20
"""A case of more is worked on by all cores at once: it would be the last one of the night."""


def plan_ingest(
    data: DataSettings,
    cases: Iterable[CaseFiles],
    volumes: Path,
    known: Iterable[ManifestRow] = (),
    cores: int = 1,
) -> list[IngestTask]:
    """One task per case; no file is opened.

    Args:
        data: The dataset.
        cases: Its cases.
        volumes: Folder of the stores.
        known: Rows of the last ingest.
        cores: Of the machine, to share among huge cases.
    """
    rows = {row.id: row for row in known}
    tasks = [
        IngestTask(files, data, volumes / f"{files.case}.zarr", rows.get(files.case))
        for files in cases
    ]
    huge: list[IngestTask] = []
    rest: list[IngestTask] = []
    for task in tasks:
        (huge if _bytes(task) >= HUGE_BYTES else rest).append(task)
    threads = max(1, cores // max(1, len(huge)))
    # The longest first, so that no worker waits for one that began last.
    return [replace(task, threads=threads) for task in huge] + rest


def _bytes(task: IngestTask) -> int:
    """Bytes of a case's files; 0 where they cannot be seen, which its own task will tell."""
    if task.files.problem is not None:
        return 0
    try:
        return sum(s.size for s in quick_evidence(task.files, root_of(task.data)))
    except CaseError:
        return 0


def ingest(
    data: DataSettings,
    settings: IngestSettings,
    execute: ExecuteSettings,
    *,
    manifest: Path,
    quarantine: Path,
    volumes: Path,
    progress: Progress = silent,
) -> list[ManifestRow]:
    """Take in a dataset: volume stores, manifest and quarantine.

    Args:
        data: The dataset.
        settings: Splits.
        execute: Where tasks run.
        manifest: File to write; a case that stands in it keeps its split for ever.
        quarantine: File to write.
        volumes: Folder of the stores.
        progress: Told of every case.

    Returns:
        The manifest's rows.

    Raises:
        NothingUsableError: No case is usable.
        SettingsError: The dataset, or the place of the stores, cannot be reached.
    """
    if is_remote(volumes) and not exists(bucket := bucket_of(volumes), "ingest.store"):
        raise SettingsError(f"ingest.store: {bucket} does not exist: make the bucket first")
    cases = discover(data)
    known = {row.id: row for row in read_manifest(manifest)}
    rows = {row.id: row for row in deal(cases, data, settings, known.values())}
    standing = {
        f.case for f in cases if f.case in known and _stands(f, known[f.case], data, volumes)
    }
    rows |= {case: _as_before(rows[case], known[case]) for case in standing}
    refused: list[QuarantineRow] = []
    fresh = [files for files in cases if files.case not in standing]
    tasks = plan_ingest(data, fresh, volumes, known.values(), execute.cores)
    total, unchanged = len(cases), len(standing)
    if standing:
        progress(STAGE, unchanged, total, f"{unchanged} unchanged")
    for number, done in enumerate(run_tasks(ingest_case, tasks, execute), start=unchanged + 1):
        case = done.task.files.case
        if done.row is None:
            refused.append(_refused(done))
            if case in known and _has_image_of(done.task, known[case]):
                rows[case] = replace(_as_before(rows[case], known[case]), status="quarantined")
        else:
            rows[case] = _taken_in(rows[case], done.task, done.row)
        progress(STAGE, number, total, _note(done))
    for odd, error in odd_ones_out(rows.values()).items():
        rows[odd] = replace(rows[odd], status="quarantined")
        refused.append(QuarantineRow(odd, STAGE, error.reason, error.remedy))
        progress(STAGE, total, total, f"{odd}: quarantined, {error.reason}")
    for case in sorted(known.keys() - rows.keys()):
        # It keeps its split and its store, and is not used.
        rows[case] = replace(known[case], status="vanished")
        progress(STAGE, total, total, f"{case}: its files are gone, its store is kept")
    write_manifest(manifest, rows.values())
    replace_quarantine(quarantine, STAGE, refused)
    if not any(row.status == "complete" for row in rows.values()):
        raise NothingUsableError(_nothing_usable(refused, data.root))
    return read_manifest(manifest)


def _stands(files: CaseFiles, row: ManifestRow, data: DataSettings, volumes: Path) -> bool:
    """Whether a case's store was made of these very files, which nobody has touched since."""
    if files.problem is not None or not row.store:
        return False
    try:
        seen = quick_evidence(files, root_of(data))
    except CaseError:
        return False
    if not same_files(seen, row.sources):
        return False
    key = store_key(files, row.sources, data)
    return key == row.key == published_key(volumes / row.store)


def _has_image_of(task: IngestTask, row: ManifestRow) -> bool:
    """Whether a refused case's image is the one its store was made of.

    Then its truth has turned bad, and what was predicted from the image is as good as it was.
    """
    try:
        seen = quick_evidence(replace(task.files, mask=None), root_of(task.data))
    except CaseError:
        return False
    return same_files(seen, [s for s in row.sources if s.role == "image"])


def _as_before(row: ManifestRow, known: ManifestRow) -> ManifestRow:
    """A case whose store stands, with the split it is dealt today."""
    return replace(known, group=row.group, split=row.split, fold=row.fold, status="complete")


def _taken_in(row: ManifestRow, task: IngestTask, done: IngestedCase) -> ManifestRow:
    return replace(
        row,
        status="complete",
        key=done.key,
        store=task.store.name,
        sources=done.sources,
        grid=done.grid,
        channels=done.channels,
    )


def _refused(done: Done[IngestTask, IngestedCase]) -> QuarantineRow:
    assert done.error is not None
    return QuarantineRow(done.task.files.case, STAGE, done.error.reason, done.error.remedy)


def _note(done: Done[IngestTask, IngestedCase]) -> str:
    """What became of a case, in words."""
    case, known = done.task.files.case, done.task.known
    if done.error is not None:
        return f"{case}: quarantined, {done.error.reason}"
    if done.row is not None and known is not None and known.key not in ("", done.row.key):
        return f"{case}: changed, what was made from it is stale"
    return case


def ingest_images(
    found: Sequence[CaseFiles],
    data: DataSettings,
    execute: ExecuteSettings,
    *,
    volumes: Path,
    progress: Progress = silent,
) -> tuple[dict[str, Path], list[QuarantineRow]]:
    """Take in images that belong to no dataset, to predict them.

    Args:
        found: Their files; see ``discover_images``.
        data: How images are read; its masks and splits do not matter.
        execute: Where tasks run.
        volumes: Folder of the stores to make.
        progress: Told of every image.

    Returns:
        Volume stores by case id, and the refused images.
    """
    # Its own folder is the root of an image that is given by name.
    tasks = [
        replace(task, data=data.model_copy(update={"root": str(task.files.image.paths[0].parent)}))
        for task in plan_ingest(data, found, volumes, cores=execute.cores)
    ]
    stores: dict[str, Path] = {}
    refused = []
    for number, done in enumerate(run_tasks(ingest_case, tasks, execute), start=1):
        if done.error is None:
            stores[done.task.files.case] = done.task.store
        else:
            refused.append(_refused(done))
        progress(STAGE, number, len(tasks), _note(done))
    return dict(sorted(stores.items())), refused


def odd_ones_out(rows: Iterable[ManifestRow]) -> dict[str, CaseError]:
    """Complete cases of another kind than most: one network cannot serve both.

    Returns:
        The refusal of each case whose axes or channels are not the commonest in the dataset.
    """
    kinds = {
        row.id: (len(row.grid["shape"]), row.channels) for row in rows if row.status == "complete"
    }
    if not kinds:
        return {}
    usual = max(Counter(kinds.values()).items(), key=lambda item: (item[1], item[0]))[0]
    return {
        case: CaseError(
            f"it has {kind[0]} axes and {kind[1]} channels, most cases have {usual[0]} and "
            f"{usual[1]}.",
            "Convert it, or make it a dataset of its own.",
        )
        for case, kind in kinds.items()
        if kind != usual
    }


def _nothing_usable(refused: Sequence[QuarantineRow], root: str) -> str:
    if not refused:
        return f"{root} holds no case: check data.layout, data.images and data.masks"
    first = refused[0]
    return f"all {len(refused)} cases are unusable; {first.case}: {first.reason} {first.remedy}"
