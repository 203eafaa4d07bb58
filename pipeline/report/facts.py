"""What the stages before left on disk, as plain values."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.io.files import read_json
from pipeline.io.manifest import ManifestRow, QuarantineRow
from pipeline.io.ngff import LabelClass
from pipeline.model_file import ModelCard, read_card

NO_SCORES: dict[str, Any] = {
    "model_id": None,
    "split": "test",
    "mean": {"dice": None},
    "classes": {},
    "targets": {},
    "cases": [],
    "rules": "",
}


@dataclass(frozen=True)
class CaseScore:
    """A case of a segmentation in one line."""

    case: str
    """Case id."""
    split: str
    """Its split."""
    classes: dict[str, float | None]
    """Dice by class; None where the class is in neither truth nor mask."""

    @property
    def mean(self) -> float | None:
        """Mean Dice over the classes that are there; None where none is."""
        values = [v for v in self.classes.values() if v is not None]
        return sum(values) / len(values) if values else None

    @property
    def rank(self) -> float | None:
        """What cases are ordered by, the lowest worst; None where there is no figure."""
        return self.mean


@dataclass(frozen=True)
class CaseErrors:
    """A case of a regression in one line."""

    case: str
    """Case id."""
    split: str
    """Its split."""
    mae: float | None
    """Mean absolute error; None where no voxel could be scored."""
    rmse: float | None
    """Root of the mean squared error, likewise."""
    r2: float | None
    """R²; None also where the truth is constant."""
    count: int
    """Voxels scored."""

    @property
    def rank(self) -> float | None:
        """What cases are ordered by, the lowest worst; None where there is no figure."""
        return None if self.mae is None else -self.mae


Scored = CaseScore | CaseErrors


@dataclass(frozen=True)
class Evidence:
    """What is on disk, read once."""

    scores: dict[str, Any]
    """scores.json; ``NO_SCORES`` where it is absent."""
    scored: bool
    """Whether scores.json is there."""
    card: ModelCard | None
    """Of the model; None where there is no readable one."""
    manifest: list[ManifestRow]
    """One row per case."""
    quarantine: list[QuarantineRow]
    """One row per refused case."""
    logs: dict[str, list[dict[str, Any]]]
    """Rows of training and validation, by fold; of one network without a fold by ``""``."""
    record: dict[str, Any] | None
    """What the last prediction did."""
    nights: list[dict[str, Any]]
    """One row per night, the last one last."""
    volumes: Path
    """Folder of the volume stores."""
    predictions: Path
    """Folder of the mask stores, one folder per model."""

    @property
    def regression(self) -> bool:
        """Whether numbers were predicted, as the scores say, or else the model."""
        if self.scored:
            return self.scores.get("task") == "regression"
        return self.card is not None and self.card.plan.target is not None

    @cached_property
    def cases(self) -> list[Scored]:
        """Scored cases, worst first, those without a figure last."""
        found = _errors(self.scores) if self.regression else _scores(self.scores)
        return sorted(found, key=lambda c: (c.rank is None, c.rank, c.case))

    @property
    def held_out(self) -> list[Scored]:
        """Scored cases of the held-out split, worst first."""
        return [c for c in self.cases if c.split == self.scores["split"]]

    @cached_property
    def regions(self) -> dict[tuple[str, str], dict[str, float | None]]:
        """Dice by region, by case and split."""
        found: dict[tuple[str, str], dict[str, float | None]] = defaultdict(dict)
        for row in self.scores.get("region_cases") or []:
            found[row["case"], row["split"]][row["region"]] = row["dice"]
        return found

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """Classes of the model; none where there is no model."""
        return () if self.card is None else self.card.plan.label_classes

    @property
    def refused(self) -> set[str]:
        """Ids of the quarantined cases."""
        return {row.case for row in self.quarantine}

    @property
    def failed(self) -> set[str]:
        """Ids of held-out cases that were taken in and have no score; none before scoring."""
        if not self.scored:
            return set()
        held_out = {row.id for row in self.manifest if row.split == self.scores["split"]}
        return (held_out & self.complete) - {case.case for case in self.cases}

    @property
    def vanished(self) -> set[str]:
        """Ids of the cases whose files are gone."""
        return {row.id for row in self.manifest if row.status == "vanished"}

    @property
    def complete(self) -> set[str]:
        """Ids of the cases whose stores are complete, and that are not quarantined."""
        return {row.id for row in self.manifest if row.status == "complete"} - self.refused

    def color(self, name: str) -> tuple[int, int, int]:
        """Colour of a class, grey where the model does not know it."""
        return next((c.color for c in self.classes if c.name == name), (128, 128, 128))


def _scores(scores: dict[str, Any]) -> list[Scored]:
    found: dict[tuple[str, str], dict[str, float | None]] = defaultdict(dict)
    for row in scores["cases"]:
        found[row["case"], row["split"]][row["class"]] = row["dice"]
    return [CaseScore(case, split, classes) for (case, split), classes in found.items()]


def _errors(scores: dict[str, Any]) -> list[Scored]:
    names = ("case", "split", "mae", "rmse", "r2", "count")
    return [CaseErrors(**{name: row[name] for name in names}) for row in scores["cases"]]


def read_scores(path: Path) -> dict[str, Any]:
    """scores.json, or ``NO_SCORES`` where it is absent.

    Raises:
        StoreError: The file is there and cannot be read.
    """
    return {**NO_SCORES, **read_json(path)} if path.exists() else NO_SCORES


def read_model(path: Path) -> ModelCard | None:
    """Card of the model with these weights; None where there is no readable one."""
    try:
        return read_card(path)
    except ModelError:
        return None
