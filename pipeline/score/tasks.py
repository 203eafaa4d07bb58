"""What is measured of a case, and the tasks that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from pipeline.io.companion_store import Companion, ProbabilityStore
from pipeline.io.files import digest
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore
from pipeline.plan_file import Plan
from pipeline.score.settings import ScoreSettings
from pipeline.space import Window

Measure = Literal["voxels", "surfaces", "objects", "membranes"]
CODE = 1
"""Version of what is measured; a new one measures anew."""
PART = 2**28
"""Voxels that one task counts."""


@dataclass(frozen=True)
class Wanted:
    """What is to be measured of every case of a run."""

    names: tuple[str, ...] | None
    """Class names by label; None: of a regression."""
    scored: Mapping[str, tuple[int, ...]]
    """Label of each class that is scored, by name."""
    regions: Mapping[str, tuple[int, ...]]
    """Labels of each region, by name."""
    surfaces: bool
    """Whether distances between surfaces are measured."""
    tolerance: float | None
    """Distance up to which surfaces agree; None: a case's largest voxel side."""
    reach: float | None
    """Distance up to which surfaces are measured in large volumes; None: by the voxels."""
    objects: bool | None
    """Whether objects are matched; None: where the truth tells them apart."""
    cells: tuple[int, ...] | None
    """Labels of all that membranes enclose; None: the errors of ISBI 2012 are not wanted."""

    @classmethod
    def of(cls, settings: ScoreSettings, plan: Plan) -> Wanted:
        """What the settings want of a plan's classes."""
        numbers = plan.target is not None
        names = [c.name for c in plan.classes]
        united = {
            region: tuple(sorted(names.index(name) for name in members))
            for region, members in settings.regions.items()
        }
        return cls(
            names=None if numbers else tuple(names),
            scored={c.name: (c.label,) for c in plan.label_classes if not c.background},
            regions=united,
            surfaces=settings.surfaces and not numbers,
            tolerance=settings.tolerance,
            reach=settings.reach,
            objects=False if numbers else settings.objects,
            cells=_cells(settings.membrane, names),
        )

    @property
    def classes(self) -> int:
        """Number of classes, K; 0 of a regression."""
        return len(self.names or ())

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Labels of all classes and regions, by a name that tells the two apart."""
        kinds = {"class": self.scored, "region": self.regions}
        return {
            group_name(kind, name): labels
            for kind, groups in kinds.items()
            for name, labels in groups.items()
        }


def _cells(membrane: str | None, names: Sequence[str]) -> tuple[int, ...] | None:
    if membrane is None:
        return None
    return tuple(label for label, name in enumerate(names) if name != membrane)


def group_name(kind: str, name: str) -> str:
    """What a class or a region is called among both."""
    return f"{kind}:{name}"


@dataclass(frozen=True)
class ScoreTask:
    """A measure of a case, or a part of it."""

    case: str
    """Case id."""
    split: str
    """Its split."""
    mask: Path
    """Its mask store."""
    volume: Path
    """Its volume store."""
    measure: Measure
    """What is measured."""
    key: str
    """Of all that the measure follows from."""
    wanted: Wanted
    """What is to be measured."""
    parts: tuple[int, int] = (0, 1)
    """Which part this is, and of how many: the windows of the mask, dealt in turn."""

    @property
    def unit(self) -> str:
        """The measure's name in the ledger."""
        return f"{self.case}/{self.measure}"

    def windows(self, mask: MaskStore) -> list[Window]:
        """The windows of the mask that belong to this part."""
        part, parts = self.parts
        return mask.windows()[part::parts]


def case_tasks(
    case: str, split: str, mask: MaskStore, volume: VolumeStore, wanted: Wanted
) -> list[ScoreTask]:
    """The tasks that measure a case; no voxel is read."""
    parts = max(1, min(len(mask.windows()), round(prod(mask.grid.shape) / PART)))
    found: list[ScoreTask] = []
    for measure, settings in _measures(mask, volume, wanted).items():
        key = digest(CODE, measure, mask.key, volume.key, wanted.names, settings)
        cut = parts if measure == "voxels" else 1
        found += [
            ScoreTask(case, split, mask.path, volume.path, measure, key, wanted, (part, cut))
            for part in range(cut)
        ]
    return found


def _measures(mask: MaskStore, volume: VolumeStore, wanted: Wanted) -> dict[Measure, list[Any]]:
    """What is measured of a case, each with the settings that it follows from."""
    found: dict[Measure, list[Any]] = {"voxels": [probabilities_of(mask.path) is not None]}
    if wanted.surfaces:
        found["surfaces"] = [wanted.groups, wanted.tolerance, wanted.reach]
    if wanted.objects or (wanted.objects is None and volume.has_instances):
        kept = Companion.objects().path(mask.path).exists()
        found["objects"] = [wanted.scored, kept]
    if wanted.cells is not None:
        found["membranes"] = [wanted.cells]
    return found


def probabilities_of(mask: Path) -> ProbabilityStore | None:
    """The probabilities that are kept beside a mask."""
    path = Companion.probabilities(()).path(mask)
    return ProbabilityStore(path) if path.exists() else None
