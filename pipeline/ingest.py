"""Source files → volume stores, one task per case."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import CaseError, NothingUsableError, SettingsError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent
from pipeline.io.cases import (
    CaseFiles,
    DataSettings,
    OpenCase,
    discover,
    open_case,
    refuse_twins,
)
from pipeline.io.files import digest, remove_tree, sha256_file
from pipeline.io.layout import choose_layout
from pipeline.io.manifest import (
    ManifestRow,
    QuarantineRow,
    SourceFile,
    Split,
    read_manifest,
    replace_quarantine,
    write_manifest,
)
from pipeline.io.readers import case_id
from pipeline.io.store import partial_path, published_key
from pipeline.io.volume_store import VolumeSpec, VolumeStore, VolumeWriter
from pipeline.space import Volume, Window, aligned_windows
from pipeline.statistics import CaseStatistics

STAGE = "ingest"
VERSION = 1
"""Raised when the same files would give another store."""


class IngestSettings(BaseModel):
    """How cases are taken in and split."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    store: str | None = None
    """Folder of the volume stores, to share them between runs; null: ``volumes`` in the run."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the groups held out: never trained on, the score is theirs."""
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the groups that choose the best checkpoint during training."""
    folds: Annotated[int, Field(ge=1)] = 5
    """Cross-validation folds into which the training cases are dealt."""
    seed: int = 0
    """Deals the groups to the splits."""


@dataclass(frozen=True)
class IngestTask:
    """One case to take in."""

    files: CaseFiles
    """Its files."""
    data: DataSettings
    """What its mask means."""
    store: Path
    """Where its volume store will stand."""
    known: ManifestRow | None
    """Its row of the last ingest, if there is one."""


@dataclass(frozen=True)
class IngestedCase:
    """What the kernel reports of a case."""

    key: str
    """Key of the store."""
    sources: tuple[SourceFile, ...]
    """Files the store was made from."""
    grid: dict[str, Any]
    """The store's grid, as JSON values."""
    channels: int
    """Channels of its image."""


def plan_ingest(
    data: DataSettings, cases: Iterable[CaseFiles], volumes: Path, known: Iterable[ManifestRow] = ()
) -> list[IngestTask]:
    """One task per case; no file is opened."""
    rows = {row.id: row for row in known}
    return [
        IngestTask(files, data, volumes / f"{files.case}.zarr", rows.get(files.case))
        for files in cases
    ]


def ingest_case(task: IngestTask) -> IngestedCase:
    """Make one volume store, unless it stands already for the same files and settings.

    Raises:
        CaseError: The files are unusable; no store is left behind.
    """
    if task.files.problem is not None:
        raise task.files.problem
    sources = _sources(task)
    meaning = task.data.model_dump(include={"classes", "ignore_values", "nodata"}, mode="json")
    key = digest(VERSION, [(s.role, s.sha256) for s in sources], str(meaning))
    if published_key(task.store) == key:
        standing = VolumeStore(task.store)
        grid = standing.grid.to_json()
        return IngestedCase(key, sources, grid, len(standing.channels))
    try:
        spec = _write_store(task, sources, key)
    except BaseException:
        remove_tree(partial_path(task.store))
        raise
    return IngestedCase(key, sources, spec.grid.to_json(), len(spec.channels))


def _sources(task: IngestTask) -> tuple[SourceFile, ...]:
    known = {} if task.known is None else {s.path: s for s in task.known.sources}
    files = [("image", task.files.image), ("mask", task.files.mask)]
    return tuple(
        _source(path, role, Path(task.data.root), known) for role, path in files if path is not None
    )


def _source(path: Path, role: Any, root: Path, known: dict[str, SourceFile]) -> SourceFile:
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        status = path.stat()
        with path.open("rb"):
            pass
    except OSError as error:
        met = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be opened"
        said = "" if isinstance(error, FileNotFoundError) else f" ({error.strerror})"
        raise CaseError(f"{name} {met}{said}.", "Restore the file, or remove its case.") from error
    before = known.get(name)
    if before is not None and (before.size, before.mtime_ns) == (
        status.st_size,
        status.st_mtime_ns,
    ):
        return before
    return SourceFile(name, role, status.st_size, status.st_mtime_ns, sha256_file(path))


def _write_store(task: IngestTask, sources: Sequence[SourceFile], key: str) -> VolumeSpec:
    case = open_case(task.files, task.data)
    classes = task.data.label_classes if case.mask is not None else None
    spec = VolumeSpec(
        grid=case.image.grid,
        dtype=str(case.image.dtype),
        channels=tuple(str(c) for c in range(case.image.channels)),
        classes=classes,
        key=key,
        sources=tuple({"path": s.path, "role": s.role, "sha256": s.sha256} for s in sources),
    )
    writer = VolumeWriter(task.store, spec)
    statistics = _read_through(case, task.data, writer.windows(), writer.write)
    writer.finish(statistics.to_json())
    return spec


def _read_through(
    case: OpenCase,
    data: DataSettings,
    windows: Iterable[Window],
    write: Callable[[Window, Volume, NDArray[Any] | None], None],
) -> CaseStatistics:
    """Read a case once, window by window, gather its statistics and hand every window on."""
    classes = len(data.classes) if case.mask is not None else 0
    grid = case.image.grid
    statistics = CaseStatistics(grid.shape, case.image.channels, classes, data.background)
    for window in windows:
        volume, truth = case.read(window)
        statistics.add(window, volume, truth)
        write(window, volume, truth)
    if statistics.valid_voxels == 0:
        raise CaseError("its image holds no data anywhere.", "Remove the case, or see data.nodata.")
    return statistics


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
    """
    cases = discover(data)
    known = {row.id: row for row in read_manifest(manifest)}
    dealt = {row.id: row for row in deal(cases, data, settings, known.values())}
    # A case whose files are gone keeps its split and its store, and is not used.
    vanished = {c: replace(row, status="vanished") for c, row in known.items() if c not in dealt}
    rows: dict[str, ManifestRow] = {**vanished, **dealt}
    refused: list[QuarantineRow] = []
    tasks = plan_ingest(data, cases, volumes, known.values())
    for number, done in enumerate(run_tasks(ingest_case, tasks, execute), start=1):
        case = done.task.files.case
        if done.row is None:
            assert done.error is not None
            refused.append(QuarantineRow(case, STAGE, done.error.reason, done.error.remedy))
            progress(STAGE, number, len(tasks), f"{case}: quarantined, {done.error.reason}")
            continue
        rows[case] = replace(
            rows[case],
            status="complete",
            key=done.row.key,
            store=done.task.store.name,
            sources=done.row.sources,
            grid=done.row.grid,
            channels=done.row.channels,
        )
        progress(STAGE, number, len(tasks), case)
    for odd, error in odd_ones_out(rows.values()).items():
        rows[odd] = replace(rows[odd], status="quarantined")
        refused.append(QuarantineRow(odd, STAGE, error.reason, error.remedy))
        progress(STAGE, len(tasks), len(tasks), f"{odd}: quarantined, {error.reason}")
    write_manifest(manifest, rows.values())
    replace_quarantine(quarantine, STAGE, refused)
    if not any(row.status == "complete" for row in rows.values()):
        raise NothingUsableError(_nothing_usable(refused, data.root))
    return read_manifest(manifest)


def ingest_images(
    paths: Sequence[Path],
    data: DataSettings,
    execute: ExecuteSettings,
    *,
    volumes: Path,
    progress: Progress = silent,
) -> tuple[dict[str, Path], list[QuarantineRow]]:
    """Take in images that belong to no dataset, to predict them.

    Args:
        paths: Image files.
        data: How images are read; its masks and splits do not matter.
        execute: Where tasks run.
        volumes: Folder of the stores to make.
        progress: Told of every image.

    Returns:
        Volume stores by case id, and the refused images.
    """
    files = refuse_twins(CaseFiles(case_id(path), path, None) for path in paths)
    tasks = [
        IngestTask(f, data.model_copy(update={"root": str(f.image.parent)}), store, None)
        for f in files
        for store in [volumes / f"{f.case}.zarr"]
    ]
    stores: dict[str, Path] = {}
    refused = []
    for number, done in enumerate(run_tasks(ingest_case, tasks, execute), start=1):
        case = done.task.files.case
        if done.error is None:
            stores[case] = done.task.store
        else:
            refused.append(QuarantineRow(case, STAGE, done.error.reason, done.error.remedy))
        note = case if done.error is None else f"{case}: quarantined, {done.error.reason}"
        progress(STAGE, number, len(tasks), note)
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


def deal(
    cases: Iterable[CaseFiles],
    data: DataSettings,
    settings: IngestSettings,
    known: Iterable[ManifestRow],
) -> list[ManifestRow]:
    """Give each case its split and fold, by group; cases and groups seen before keep theirs.

    New groups are ranked by a hash of their name. On a first ingest the lowest ranks fill the
    held-out shares exactly; later ones are dealt so that the shares are kept as they grow.
    """
    if data.group is not None:
        _refuse_idle_pattern(data.group, [c.case for c in cases])
    kept = {row.id: row for row in known}
    split_of = _known_splits(kept.values(), data)
    labelled = {c.case for c in cases if c.mask is not None or c.problem is not None}
    groups = {data.group_of(case) for case in labelled} | set(split_of)
    want = {
        "test": _share(groups, settings.test_fraction),
        "val": _share(groups, settings.val_fraction),
    }
    for group in sorted(groups - set(split_of), key=lambda g: _rank(g, settings.seed)):
        split_of[group] = _next_split(split_of, want, settings.folds)
    rows = []
    for files in cases:
        group = data.group_of(files.case)
        split, fold = split_of[group] if files.case in labelled else ("unlabelled", None)
        rows.append(ManifestRow(files.case, group, split, fold, "quarantined"))
    return rows


def _refuse_idle_pattern(pattern: str, cases: Sequence[str]) -> None:
    missed = [case for case in cases if re.search(pattern, case) is None]
    if missed:
        raise SettingsError(
            f"data.group {pattern!r} does not match {len(missed)} of {len(cases)} case ids, "
            f"{missed[0]} among them: each would be a group of its own, and one patient could "
            "stand on both sides of a split"
        )


def _known_splits(
    rows: Iterable[ManifestRow], data: DataSettings
) -> dict[str, tuple[Split, int | None]]:
    """Split and fold of each group dealt before, by today's groups.

    Raises:
        SettingsError: A changed ``data.group`` would put cases of two splits into one group.
    """
    split_of: dict[str, tuple[Split, int | None]] = {}
    for row in rows:
        if not row.labelled:
            continue
        group = data.group_of(row.id)
        before = split_of.setdefault(group, (row.split, row.fold))
        if before[0] != row.split:
            raise SettingsError(
                f"data.group puts {row.id} ({row.split}) into group {group}, which has cases of "
                f"split {before[0]}: splits are fixed; use a new run_dir to deal anew"
            )
    return split_of


def _share(groups: set[str], fraction: float) -> int:
    # At least one group where the share is wanted at all, but one is always left to train on.
    wanted = max(1, round(len(groups) * fraction)) if fraction > 0 else 0
    return min(wanted, max(0, (len(groups) - 1) // 2))


def _next_split(
    split_of: dict[str, tuple[Split, int | None]], want: dict[str, int], folds: int
) -> tuple[Split, int | None]:
    have = [split for split, _ in split_of.values()]
    if have.count("test") < want["test"]:
        return "test", None
    if have.count("val") < want["val"]:
        return "val", None
    return "train", have.count("train") % folds


def _rank(group: str, seed: int) -> str:
    return sha256(f"{seed}:{group}".encode()).hexdigest()


def check(
    data: DataSettings, execute: ExecuteSettings, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Read every case as ingest would, and write nothing.

    Returns:
        A row per case: ``case``, ``status`` (ok or refused), ``reason``, ``remedy``, ``shape``,
        ``class_voxels`` by class name.
    """
    tasks = plan_ingest(data, discover(data), Path("unused"))
    rows = []
    for number, done in enumerate(run_tasks(check_case, tasks, execute), start=1):
        case = done.task.files.case
        found: dict[str, Any] = {"case": case, "status": "ok", "reason": "", "remedy": ""}
        if done.error is not None:
            found |= {"status": "refused", "reason": done.error.reason, "remedy": done.error.remedy}
        rows.append(found | (done.row or {"shape": None, "channels": 0, "class_voxels": None}))
        progress("check", number, len(tasks), case)
    found_rows = [
        ManifestRow(r["case"], "", "train", None, "complete", grid=r, channels=r["channels"])
        for r in rows
        if r["status"] == "ok"
    ]
    odd = odd_ones_out(found_rows)
    for row in rows:
        if error := odd.get(row["case"]):
            row |= {"status": "refused", "reason": error.reason, "remedy": error.remedy}
    return sorted(rows, key=lambda row: row["case"])


def check_case(task: IngestTask) -> dict[str, Any]:
    """Read one case whole, window by window.

    Raises:
        CaseError: Ingest would refuse the case.
    """
    case = open_case(task.files, task.data)
    grid = case.image.grid
    layout = choose_layout((case.image.channels, *grid.shape), case.image.dtype, channels=True)
    windows = aligned_windows(grid.shape, layout.write[1:])
    found = _read_through(case, task.data, windows, lambda *voxels: None).to_json()
    names = [c.name for c in task.data.classes]
    return {
        "shape": list(grid.shape),
        "channels": case.image.channels,
        "class_voxels": dict(zip(names, found["class_voxels"], strict=False)),
    }
