"""A prepared run, as the parts of the training benchmark see it; nothing is written into it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.plan_file import Plan, read_plan
from pipeline.run.folder import RunDir
from pipeline.run.settings import RunSettings
from pipeline.run.settings_file import load_settings
from pipeline.training.loop import TrainTask
from pipeline.training.tasks import plan_train

ENDLESS = {"max_minutes": None, "max_epochs": None, "max_steps": 10**9, "validations": 1}
"""Limits that a benchmark does not reach: it ends by itself."""
NEVER_MINUTES = 1e6


@dataclass(frozen=True)
class BenchedRun:
    """A run whose patches are cut."""

    settings: RunSettings
    folder: RunDir
    plan: Plan

    def task(self, checkpoints: Path, plan: Plan | None = None, **changes: Any) -> TrainTask:
        """The run's training, without validation, its files elsewhere."""
        (task,) = plan_train(
            plan or self.plan,
            self.settings.train.model_copy(update={"folds": None, **changes}),
            manifest=self.folder.manifest,
            volumes=self.folder.volumes,
            patches=self.folder.patches,
            checkpoints=checkpoints,
        )
        checkpoints.mkdir(parents=True, exist_ok=True)
        return replace(task, validation=())

    def endless(self, checkpoints: Path, **changes: Any) -> TrainTask:
        """The run's training, to be measured for as long as one likes."""
        changes = ENDLESS | {"checkpoint_minutes": NEVER_MINUTES, "start_from": None} | changes
        return self.task(checkpoints, **changes)


def open_run(path: Path) -> BenchedRun:
    """Open a run by its folder or its YAML file.

    Raises:
        SettingsError: There is no such run.
    """
    if path.is_dir():
        settings = load_settings(path / "run.yaml")
        folder = RunDir(path, settings.dir.shared_volumes)
    else:
        settings = load_settings(path)
        # Relative to where segflow was started, which often is where the file lies.
        places = [settings.dir.root, path.parent / settings.dir.root]
        root = next((place for place in places if place.is_dir()), None)
        if root is None:
            raise SettingsError(f"the run of {path} is not at {places[0]}: give its folder instead")
        folder = RunDir(root, settings.dir.shared_volumes)
    return BenchedRun(settings, folder, read_plan(folder.plan))
