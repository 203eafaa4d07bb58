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
    "cases": [],
    "rules": "",
}


@dataclass(frozen=True)
class CaseScore:
    """A case in one line."""

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
    log: list[dict[str, Any]]
    """Rows of training and validation."""
    record: dict[str, Any] | None
    """What the last prediction did."""
    volumes: Path
    """Folder of the volume stores."""
    predictions: Path
    """Folder of the mask stores, one folder per model."""

    @cached_property
    def cases(self) -> list[CaseScore]:
        """Scored cases, worst first, those without a figure last."""
        found: dict[tuple[str, str], dict[str, float | None]] = defaultdict(dict)
        for row in self.scores["cases"]:
            found[row["case"], row["split"]][row["class"]] = row["dice"]
        cases = [CaseScore(case, split, classes) for (case, split), classes in found.items()]
        return sorted(cases, key=lambda c: (c.mean is None, c.mean, c.case))

    @property
    def held_out(self) -> list[CaseScore]:
        """Scored cases of the held-out split, worst first."""
        return [c for c in self.cases if c.split == self.scores["split"]]

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """Classes of the model; none where there is no model."""
        return () if self.card is None else self.card.plan.label_classes

    @property
    def refused(self) -> set[str]:
        """Ids of the quarantined cases."""
        return {row.case for row in self.quarantine}

    @property
    def complete(self) -> set[str]:
        """Ids of the cases whose stores are complete, and that are not quarantined."""
        return {row.id for row in self.manifest if row.status == "complete"} - self.refused

    def color(self, name: str) -> tuple[int, int, int]:
        """Colour of a class, grey where the model does not know it."""
        return next((c.color for c in self.classes if c.name == name), (128, 128, 128))


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
