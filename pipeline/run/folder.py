"""Every path of a run, and the lock that keeps a second segflow out of it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import BusyError, SettingsError
from pipeline.io.location import is_remote
from pipeline.promotion import serving_model

HELD: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())
"""Folders whose lock is held by those who called: a night holds it for all its stages."""


@dataclass(frozen=True)
class RunDir:
    """Every path of a run."""

    root: Path
    """The run's folder."""
    shared_volumes: Path | None = None
    """Folder of the volume stores where it lies outside the run."""
    shared_published: Path | None = None
    """Folder of the published versions where it lies outside the run."""
    chosen_model: Path | None = None
    """Weights that predict, where they are not those that were trained last."""
    aside: Path | None = None
    """Folder of scores and refusals, where they are not to take the place of the run's own."""

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
        return (self.aside or self.root) / "quarantine.jsonl"

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
        """Weights that predict; their sidecar stands beside them."""
        return self.chosen_model or self.trained

    @property
    def trained(self) -> Path:
        """Weights of the best checkpoint of the last training."""
        return self.checkpoints / "best.pt"

    @property
    def promoted(self) -> Path:
        """Folder of the models that serve the nights, or have served."""
        return self.root / "promoted"

    @property
    def serving(self) -> RunDir:
        """The same run, predicting with the promoted model."""
        return replace(self, chosen_model=serving_model(self.promoted))

    @property
    def published(self) -> Path:
        """Folder of the published versions."""
        return self.shared_published or self.root / "published"

    @property
    def nights(self) -> Path:
        """One row per night."""
        return self.root / "nights.jsonl"

    @property
    def retraining(self) -> Path:
        """Folder of the scores by which a new model was judged."""
        return self.root / "retrain"

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
        return (self.aside or self.root) / "scores.json"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.root / "report" / "index.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second segflow out of the run while this one works on it.

        The lock is the operating system's: it ends with the process, however that ends. Who holds
        it may take it again.

        Raises:
            BusyError: Another process holds it.
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
    place = folder.resolve()
    if place in HELD.get():
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(
                f"another segflow is at work in {folder}: wait for it, or stop it"
            ) from error
        token = HELD.set(HELD.get() | {place})
        try:
            yield
        finally:
            HELD.reset(token)
