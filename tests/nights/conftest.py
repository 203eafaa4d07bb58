"""A trained run on a tiny dataset, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.run import RunDir, RunSettings, parse_settings, run_stage
from tests.flows.discs import CASES, draw_pair, settings_of


@dataclass(frozen=True)
class Dataset:
    """A folder of pictures that grows and suffers, and the run on it."""

    folder: Path
    """Holds ``data`` and ``run``."""
    changes: dict[str, Any]
    """Settings that are not the usual ones."""

    @property
    def settings(self) -> RunSettings:
        """The run's settings."""
        value = settings_of(self.folder / "data", self.folder / "run")
        value["data"]["unlabelled"] = "predict"
        value["drift"] = {"enabled": False}  # the network has hardly learnt, its masks drift
        return parse_settings(value | self.changes)

    @property
    def run(self) -> RunDir:
        """The run's folder."""
        return self.settings.dir

    def image(self, case: str) -> Path:
        """A case's picture."""
        return self.folder / "data" / "images" / f"{case}.png"

    def draw(self, case: str, seed: int, *, labelled: bool = False) -> None:
        """Drop in a picture, or put another in its place."""
        draw_pair(self.folder / "data", case, seed)
        if not labelled:
            (self.folder / "data" / "masks" / f"{case}.png").unlink()

    def tear(self, case: str) -> None:
        """Cut a picture short."""
        self.image(case).write_bytes(self.image(case).read_bytes()[:100])

    def masks(self, version: str = "current") -> dict[str, dict[str, bytes]]:
        """All files of a version's masks, by case."""
        folder = self.run.published / version
        return {
            store.stem: {
                str(path.relative_to(store)): path.read_bytes()
                for path in sorted(store.rglob("*"))
                if path.is_file()
            }
            for store in sorted(folder.glob("*.zarr"))
        }


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a trained run."""
    folder = tmp_path_factory.mktemp("nights")
    for number in range(CASES):
        draw_pair(folder / "data", f"disc_{number}", number)
    dataset = Dataset(folder, {})
    for stage in ("ingest", "plan", "patch", "train"):
        run_stage(stage, dataset.settings)
    return folder


@pytest.fixture
def make_dataset(template: Path, tmp_path: Path) -> Callable[..., Dataset]:
    """Copies of the trained run, with settings changed."""

    def make(**changes: Any) -> Dataset:
        shutil.copytree(template, tmp_path / "dataset", symlinks=True)
        return Dataset(tmp_path / "dataset", changes)

    return make


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    """A copy of the trained run."""
    return make_dataset()
