"""A store, a folder of stores or a run → findings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.execute import ExecuteSettings, Progress, silent
from pipeline.io.location import is_remote
from pipeline.io.store import partial_path
from pipeline.run import RunDir, RunSettings, load_settings
from pipeline.verify.findings import LEVELS, Finding
from pipeline.verify.places import look_below, unfinished
from pipeline.verify.run import look_at_run
from pipeline.verify.stores import StoreToVerify, verify_stores

REMEDY = "Put it back from a backup, or delete it and have it made again."
SETTINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class Verified:
    """What a verification found."""

    findings: tuple[Finding, ...]
    """Damage first."""
    stores: int
    """Stores that were looked at."""
    bytes: int
    """Of their files."""
    quarantined: int = 0
    """Cases of the run that were refused."""

    @property
    def damaged(self) -> int:
        """Stores and files that are not as they were made."""
        return len({f.place for f in self.findings if f.level == "damaged"})


def verify(
    place: Path,
    *,
    workers: int | None = None,
    read: bool = True,
    progress: Progress = silent,
) -> Verified:
    """Find out whether a store, all stores of a folder, or a run is whole; nothing is changed.

    Memory is that of one shard for each worker.

    Args:
        place: A store, a folder of stores, a run's folder or its run.yaml.
        workers: Workers that read; None: as the run's settings say, or one per core.
        read: Whether every stored chunk is decoded; False: metadata and lists of files alone.
        progress: Told of every portion of files.

    Raises:
        SettingsError: There is nothing to verify at that place.
    """
    found = _run_at(place)
    if found is not None:
        settings, run = found
        looked = look_at_run(settings, run)
        stores, findings = looked.stores, looked.findings
        execute = settings.execute
        refused = len({f.place for f in findings if f.reason.startswith("quarantined")})
    else:
        stores, findings = _stores_at(place)
        execute, refused = ExecuteSettings(), 0
    if workers is not None:
        execute = execute.model_copy(update={"workers": workers})
    more, total = verify_stores(stores, execute, progress, read=read)
    ordered = sorted([*findings, *more], key=lambda finding: LEVELS.index(finding.level))
    return Verified(tuple(ordered), len(stores), total, refused)


def _run_at(place: Path) -> tuple[RunSettings, RunDir] | None:
    """A run, by its settings or by its folder, which may have been moved; None: it is no run."""
    if place.suffix in SETTINGS:
        settings = load_settings(place)
        return settings, settings.dir
    if is_remote(place) or not (place / "run.yaml").is_file():
        return None
    settings = load_settings(place / "run.yaml")
    return settings, replace(settings.dir, root=place)


def _stores_at(place: Path) -> tuple[tuple[StoreToVerify, ...], tuple[Finding, ...]]:
    """A store, or those below a folder.

    Raises:
        SettingsError: There is none.
    """
    if (place / "zarr.json").is_file() or (place.suffix == ".zarr" and place.is_dir()):
        return (StoreToVerify(place, REMEDY),), ()
    partial = partial_path(place)
    if place.suffix == ".zarr" and partial.is_dir():
        raise SettingsError(
            f"{place} is not finished: {partial.name} beside it is being written, or was left by "
            "a run that was killed; run its command again"
        )
    below = look_below(place) if not is_remote(place) else None
    if below is None or not below.stores:
        raise SettingsError(
            f"{place} holds no store and no run.yaml: give a store, a folder of stores, a run's "
            "folder or its run.yaml"
        )
    found = tuple(StoreToVerify(path, REMEDY) for path in below.stores)
    return found, tuple(map(unfinished, below.leftovers))
