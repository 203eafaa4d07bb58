"""Every path of a run, and the lock that keeps a second segflow out of it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SegflowError, SettingsError
from pipeline.io.location import is_remote


@dataclass(frozen=True)
class RunDir:
    """Every path of a run."""

    root: Path
    """The run's folder."""
    shared_volumes: Path | None = None
    """Folder of the volume stores where it lies outside the run."""

    @property
    def settings(self) -> Path:
        """Resolved settings."""
        return self.root / "run.yaml"

    @property
    def manifest(self) -> Path:
        """One row per case."""
        return self.root / "manifest.jsonl"

    @property
    def quarantine(self) -> Path:
        """Refused cases."""
        return self.root / "quarantine.jsonl"

    @property
    def check(self) -> Path:
        """What ``segflow check`` found."""
        return self.root / "check.json"

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.root / "plan.json"

    @property
    def volumes(self) -> Path:
        """Folder of the volume stores."""
        return self.shared_volumes or self.root / "volumes"

    @property
    def inputs(self) -> Path:
        """Folder of the volume stores made for ``segflow predict --input``."""
        return self.root / "inputs"

    @property
    def patches(self) -> Path:
        """The patch store."""
        return self.root / "patches.zarr"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints and the training log."""
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """Weights of the best checkpoint; its sidecar stands beside it."""
        return self.checkpoints / "best.pt"

    @property
    def training_logs(self) -> dict[str, Path]:
        """Logs of the trainings that the model came of, by fold; one without a fold has no name."""
        single = self.checkpoints / "log.jsonl"
        if single.exists():
            return {"": single}
        logs = sorted(self.checkpoints.glob("fold-*/log.jsonl"))
        return {path.parent.name.replace("-", " "): path for path in logs}

    @property
    def predictions(self) -> Path:
        """Folder of the mask stores, one folder per model."""
        return self.root / "predictions"

    @property
    def ledger(self) -> Path:
        """Folder of the records of finished units."""
        return self.root / "ledger"

    @property
    def scores(self) -> Path:
        """The scores; ``scores.csv`` stands beside it."""
        return self.root / "scores.json"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.root / "report" / "index.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second segflow out of the run while this one works on it.

        The lock is the operating system's: it ends with the process, however that ends.

        Raises:
            SegflowError: Another process holds it.
        """
        with _locked(self.root, "run_dir"):
            yield

    @contextmanager
    def volumes_locked(self) -> Iterator[None]:
        """The same for volume stores that runs share; an object store knows no locks."""
        if self.shared_volumes is None or is_remote(self.shared_volumes):
            yield
            return
        with _locked(self.shared_volumes, "ingest.store"):
            yield


@contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise SettingsError(
            f"{key} {folder} cannot be written ({error.strerror}): choose another"
        ) from error
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SegflowError(
                f"another segflow is at work in {folder}: wait for it, or stop it"
            ) from error
        yield
