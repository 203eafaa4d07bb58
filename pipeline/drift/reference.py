"""What the training cases are like, kept beside the model that was trained on them."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.drift.quantities import quantities
from pipeline.drift.quantity import Scale
from pipeline.errors import StoreError
from pipeline.io.volume_store import VolumeStore
from pipeline.plan_file import Plan

VERSION = 1
"""Raised when the same stores would give other figures."""
FEWEST = 5
"""Training cases below which a range says nothing: beyond that of four lie, whatever they are like,
two in five of further cases of their kind."""


@dataclass(frozen=True)
class Known:
    """The figures of the training cases for one quantity."""

    values: tuple[float, ...]
    """One of each case that has the quantity, ascending."""
    scale: Scale
    """How they are compared."""

    @property
    def too_few(self) -> bool:
        """Whether a range of so few says nothing."""
        return len(self.values) < FEWEST


@dataclass(frozen=True)
class Reference:
    """The figures of the training cases."""

    cases: int
    """Training cases."""
    quantities: Mapping[str, Known]
    """Their figures, by quantity."""

    @property
    def too_few(self) -> bool:
        """Whether there are too few training cases to compare with: then nothing is flagged."""
        return self.cases < FEWEST

    @classmethod
    def of(cls, volumes: Iterable[Path], plan: Plan) -> Reference:
        """Gather the figures from the attributes of stores with truth; reads no voxel.

        Args:
            volumes: Volume stores of the training cases.
            plan: The model's.

        Raises:
            CaseError: A volume is not of the kind that the plan is for.
            StoreError: A store is absent, not complete, or of an earlier version.
        """
        scales: dict[str, Scale] = {}
        values: dict[str, list[float]] = {}
        cases = 0
        for cases, volume in enumerate(volumes, start=1):  # noqa: B007
            store = VolumeStore(volume)
            of = store.statistics
            truth = of.get("class_voxels") if store.labelled else None
            for name, quantity in quantities(store, truth, of.get("target"), plan).items():
                scales[name] = quantity.scale
                insort(values.setdefault(name, []), quantity.value)
        return cls(cases, {n: Known(tuple(values[n]), scales[n]) for n in values})

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reference:
        """The figures that ``to_json`` wrote.

        Raises:
            StoreError: They are of another version, or damaged.
        """
        if value.get("version") != VERSION:
            raise StoreError(
                f"figures of the training cases are of version {value.get('version')}, this "
                f"segflow compares version {VERSION}: gather them again from the volume stores"
            )
        try:
            known = {
                name: Known(tuple(map(float, of["values"])), Scale(**of["scale"]))
                for name, of in value["quantities"].items()
            }
            return cls(int(value["cases"]), known)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(
                f"figures of the training cases are damaged ({error!r}): gather them again from "
                "the volume stores"
            ) from error
