"""One case: its files read once, its store written, its statistics gathered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import CaseError
from pipeline.ingest.evidence import (
    full_evidence,
    quick_evidence,
    root_of,
    same_files,
    store_key,
)
from pipeline.ingest.reading import Read, cut, reads_of
from pipeline.io.cases import OpenCase, Voxels, open_case
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CaseFiles
from pipeline.io.files import remove_tree
from pipeline.io.layout import Boxes, volume_boxes
from pipeline.io.location import scratch
from pipeline.io.manifest import ManifestRow, SourceFile
from pipeline.io.store import partial_path, published_key
from pipeline.io.volume_store import VolumeStore
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.space import Window
from pipeline.statistics import CaseStatistics

HELD_BYTES = 512 * 2**20
"""Most that the reads under way hold together, voxels of the image alone."""
Result = TypeVar("Result")
Write = Callable[[Window, Voxels], None]


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
    threads: int = 1
    """Boxes of voxels that are worked on at the same time."""


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


def ingest_case(task: IngestTask) -> IngestedCase:
    """Make one volume store, unless it stands already for the same files and settings.

    Raises:
        CaseError: The files are unusable; no store is left behind.
    """
    if task.files.problem is not None:
        raise task.files.problem
    standing = _standing(task)
    if standing is not None:
        return standing
    try:
        return _make_store(task)
    except BaseException:
        remove_tree(partial_path(task.store))
        raise


def _standing(task: IngestTask) -> IngestedCase | None:
    """The case as it stands already, where its files say what they said before."""
    published = published_key(task.store)
    if published is None:
        return None
    sources = _evidence(task)
    if store_key(task.files, sources, task.data) != published:
        return None
    store = VolumeStore(task.store)
    return IngestedCase(published, sources, store.grid.to_json(), len(store.channels))


def _evidence(task: IngestTask) -> tuple[SourceFile, ...]:
    known = () if task.known is None else task.known.sources
    return full_evidence(task.files, root_of(task.data), known)


def _make_store(task: IngestTask) -> IngestedCase:
    before = quick_evidence(task.files, root_of(task.data))
    # Summing and reading want the same bytes of the disk, and different parts of the processor.
    with ThreadPoolExecutor(1) as pool, scratch() as folder:
        case = open_case(task.files, task.data, folder)
        summing = pool.submit(_evidence, task)
        spec = _spec(case, task.data)
        writer = VolumeWriter(task.store, spec)
        statistics = read_through(
            case, task.data, spec.boxes, task.threads, lambda w, v: _write(writer, w, v)
        )
        sources = summing.result()
    after = quick_evidence(task.files, root_of(task.data))
    if not (same_files(before, sources) and same_files(before, after)):
        raise CaseError(
            "its files changed while they were read.",
            "Run ingest again when they are whole; let copies arrive under another name.",
        )
    key = store_key(task.files, sources, task.data)
    told = [{"path": s.path, "role": s.role, "sha256": s.sha256} for s in sources]
    writer.finish(statistics.to_json(), key, told)
    return IngestedCase(key, sources, spec.grid.to_json(), len(spec.channels))


def _spec(case: OpenCase, data: DataSettings) -> VolumeSpec:
    labelled, numbers = case.mask is not None, data.task == "regression"
    return VolumeSpec(
        grid=case.image.grid,
        dtype=str(case.image.dtype),
        channels=tuple(str(c) for c in range(case.image.channels)),
        classes=data.label_classes if labelled and not numbers else None,
        instances=str(case.mask.dtype) if case.instances and case.mask is not None else None,
        target=data.target if labelled and numbers else None,
    )


def _write(writer: VolumeWriter, window: Window, voxels: Voxels) -> None:
    writer.write(window, voxels.volume, voxels.truth, voxels.instances)


def boxes_of(case: OpenCase) -> Boxes:
    """How the store of an open case is cut."""
    return volume_boxes(case.image.grid.shape, case.voxel_bytes)


def read_through(
    case: OpenCase, data: DataSettings, boxes: Boxes, threads: int, write: Write
) -> CaseStatistics:
    """Read a case once, box by box, gather its statistics and hand every box on.

    Args:
        case: The open case.
        data: What its mask means.
        boxes: How its store is cut.
        threads: Boxes worked on at the same time.
        write: Receives every box, in any order and from several threads.

    Raises:
        CaseError: A file is damaged or unfit, or the image holds no data at all.
    """
    grid, image, labelled = case.image.grid, case.image, case.mask is not None
    classes = len(data.classes) if labelled else 0
    numbers = labelled and data.task == "regression"

    def fresh() -> CaseStatistics:
        counted = (classes, data.background, boxes.chunk)
        return CaseStatistics(grid.shape, image.dtype, image.channels, *counted, numbers=numbers)

    def take(window: Window, voxels: Voxels) -> CaseStatistics:
        found = fresh()
        found.add(window, voxels.volume, voxels.truth)
        write(window, voxels)
        return found

    total = fresh()
    reads = reads_of(case, boxes.box)
    for part in _in_order(_jobs(case, reads, take), threads_for(case, reads, threads)):
        total.merge(part)
    if total.valid_voxels == 0:
        raise CaseError("its image holds no data anywhere.", "Remove the case, or see data.nodata.")
    return total


def threads_for(case: OpenCase, reads: list[Read], threads: int) -> int:
    """As many of the threads as may hold a read each: many cores must not mean much memory."""
    largest = max(read.window.size for read in reads) * case.voxel_bytes
    return min(threads, max(1, HELD_BYTES // largest))


Take = Callable[[Window, Voxels], CaseStatistics]


def _jobs(case: OpenCase, reads: list[Read], take: Take) -> Iterator[Callable[[], CaseStatistics]]:
    """The work on a case, in pieces that may run at the same time."""

    def read_and_take(read: Read) -> CaseStatistics:
        voxels = case.read(read.window)
        first, *others = (take(box, cut(voxels, read.window, box)) for box in read.boxes)
        for other in others:
            first.merge(other)
        return first

    for read in reads:
        if not case.sequential:
            yield lambda read=read: read_and_take(read)  # type: ignore[misc]
            continue
        # A stream has one reader: this one, which runs ahead of the pieces by what it yields.
        voxels = case.read(read.window)
        for box in read.boxes:
            part = cut(voxels, read.window, box)
            yield lambda box=box, part=part: take(box, part)  # type: ignore[misc]


def _in_order(jobs: Iterator[Callable[[], Result]], threads: int) -> Iterator[Result]:
    """Run jobs on threads, a few ahead, and yield their results in order."""
    if threads == 1:
        for job in jobs:
            yield job()
        return
    with _pool(threads) as pool:
        running: deque[Future[Result]] = deque()
        for job in jobs:
            running.append(pool.submit(job))
            if len(running) > threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        # After an error what has not begun is not begun.
        pool.shutdown(cancel_futures=True)
