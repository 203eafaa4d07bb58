"""Stores → findings: each is examined, then all their files are read, in tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.execute import ExecuteSettings, Progress, run_tasks
from pipeline.io.location import is_remote
from pipeline.io.wholeness import Examined, Flaw, Stored, examine, read_stored
from pipeline.verify.findings import Finding

STAGE = "verify"
FEW_BYTES = 2**28
"""Stored bytes below which files are read in this process: workers would cost more."""
MOST_TOLD = 5
"""Damaged files that are named of a store; the others are counted."""


@dataclass(frozen=True)
class StoreToVerify:
    """A store, and what helps where it is damaged."""

    path: Path
    """The store."""
    remedy: str
    """What to do."""


def verify_stores(
    stores: Sequence[StoreToVerify], execute: ExecuteSettings, progress: Progress, *, read: bool
) -> tuple[list[Finding], int]:
    """Examine stores and read their files.

    Args:
        stores: The stores.
        execute: Where tasks run.
        progress: Told of every portion of files.
        read: Whether files are read, not only listed.

    Returns:
        Findings, ordered as the stores are, and the bytes of all files, each counted once.
    """
    flaws: dict[Path, list[Flaw]] = {store.path: [] for store in stores}
    examined: dict[Path, Examined] = {}
    for store in stores:
        try:
            examined[store.path] = examine(store.path)
        except StoreError as error:
            flaws[store.path].append(Flaw("", str(error)))
            continue
        flaws[store.path] += examined[store.path].flaws
    once = _once(examined)
    total = sum(found.bytes for found in once)
    if read:
        tasks = [task for found in once for task in found.stored]
        for task, flaw in _read(tasks, _place(execute, total), progress):
            flaws[task.store].append(flaw)
    findings = [f for store in stores for f in _findings(store, flaws[store.path])]
    old = [path for path, found in examined.items() if not found.inventoried]
    return findings + [_old(path) for path in old], total


def _once(examined: Mapping[Path, Examined]) -> list[Examined]:
    """Stores without those whose files are links to the files of one before: published ones."""
    files: dict[tuple[int, ...], Examined] = {}
    for number, (path, found) in enumerate(examined.items()):
        place: tuple[int, ...] = (number,)
        if not is_remote(path):
            root = (path / "zarr.json").stat()
            place = (root.st_dev, root.st_ino)
        files.setdefault(place, found)
    return list(files.values())


def _read(
    tasks: Sequence[Stored], execute: ExecuteSettings, progress: Progress
) -> Iterator[tuple[Stored, Flaw]]:
    for number, done in enumerate(run_tasks(read_stored, tasks, execute), start=1):
        if done.error is not None:
            yield done.task, Flaw(done.task.array, f"it could not be read: {done.error.reason}")
        for flaw in done.row or ():
            yield done.task, flaw
        progress(STAGE, number, len(tasks), f"{done.task.store.name} {done.task.array}")


def _place(execute: ExecuteSettings, total: int) -> ExecuteSettings:
    few = total < FEW_BYTES and execute.on == "local"
    return execute.model_copy(update={"on": "serial"}) if few else execute


def _findings(store: StoreToVerify, flaws: Sequence[Flaw]) -> Iterator[Finding]:
    """A store's flaws as findings; of many like each other the first."""
    for flaw in flaws[:MOST_TOLD]:
        where = f"{flaw.where}: " if flaw.where else ""
        yield Finding("damaged", str(store.path), f"{where}{flaw.what}.", store.remedy)
    if len(flaws) > MOST_TOLD:
        more = f"and {len(flaws) - MOST_TOLD} more of its files or arrays are damaged."
        yield Finding("damaged", str(store.path), more, store.remedy)


def _old(path: Path) -> Finding:
    return Finding(
        "note",
        str(path),
        "an earlier segflow made it, which did not write down what is stored: that a file is lost "
        "cannot be told.",
        "Nothing, or have it made again.",
    )
