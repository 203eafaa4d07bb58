"""What is compared of a case: figures that decide what the network sees, and what it drew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import log, prod
from pathlib import Path
from typing import Any

from pipeline.drift.intensities import intensities
from pipeline.drift.quantity import Quantity, Scale
from pipeline.errors import CaseError
from pipeline.io.volume_store import VolumeStore
from pipeline.plan_file import Plan, PlannedTarget
from pipeline.space import Grid
from pipeline.space.grid import SYMBOLS

SPACING = Scale(log(1.1), ratios=True)
"""A tenth: training scales its patches by 0.7 to 1.4, so that less makes no difference."""
SIZE = Scale(log(1.5), ratios=True)
"""Half as much again: networks see windows, never the whole; only another field of view shows
other things."""
SHARE = Scale(0.1, "%")
"""A tenth of the field: no training case without data at its rim is no reason to flag a rim."""
CLASS_SHARE = Scale(log(1.5), "%", ratios=True)
"""Half as much again: a good mask of a small thing may be off by as much at its border."""
TARGET = 0.25
"""Of the target's standard deviation: well within what regressions err by."""
TOLD = 0.5
"""Share of a case that its truth must label for its class shares to be those of the case."""


def quantities(
    store: VolumeStore,
    class_voxels: Sequence[int] | None,
    target: Mapping[str, Any] | None,
    plan: Plan,
) -> dict[str, Quantity]:
    """All quantities of a case, by name.

    Args:
        store: Its volume; no voxel of it is read.
        class_voxels: Voxels of each class in its mask or truth; None: there is none.
        target: Mean and std of a regression's numbers, as statistics hold them; None: none.
        plan: The model's.

    Raises:
        CaseError: The volume cannot be predicted with this plan.
    """
    if why := plan.misfit(store.grid, len(store.channels)):
        raise CaseError(f"{why}.", "Compare cases of the kind that the model was trained on.")
    statistics = store.statistics
    valid = statistics["valid_voxels"]
    found = dict(intensities(statistics, plan))
    found["share of voxels that hold data"] = Quantity(valid / prod(store.grid.shape), SHARE)
    if "nonzero" in statistics:
        seen = statistics["nonzero"][0]["voxels"] if statistics["nonzero"] else 0
        found["share of voxels that are not 0"] = Quantity(seen / valid, SHARE)
    found |= dict(_geometry(store.grid, plan))
    if plan.target is not None:
        return found | dict(_numbers(target, plan.target))
    return found | dict(_shares(class_voxels, valid, plan))


def _geometry(grid: Grid, plan: Plan) -> Iterator[tuple[str, Quantity]]:
    """Spacing and size on each axis, where they are measured as the training cases' are."""
    unit = plan.unit and SYMBOLS.get(plan.unit, plan.unit)
    alike = grid.unit == plan.unit
    known = f"measured in {unit}" if unit else "without a unit"
    yield f"number of axes {known}", Quantity(len(grid.axes) if alike else 0, Scale(0.5))
    if not alike:
        return
    for axis, spacing, voxels in zip(grid.axes, grid.spacing, grid.shape, strict=True):
        if unit:
            yield f"spacing along {axis}", Quantity(spacing, replace(SPACING, unit=unit))
        # A scene of any size is tiled alike and shows no other things.
        if grid.crs is None:
            size = replace(SIZE, unit=unit or "pixels")
            yield f"size along {axis}", Quantity(spacing * voxels, size)


def _shares(
    class_voxels: Sequence[int] | None, valid: int, plan: Plan
) -> Iterator[tuple[str, Quantity]]:
    """Share of each class in what is labelled; of a background the others' shares tell."""
    told = sum(class_voxels or ())
    if not class_voxels or told < TOLD * valid:
        return
    for planned, voxels in zip(plan.classes, class_voxels, strict=True):
        if not planned.background:
            yield f"share of {planned.name}", Quantity(voxels / told, CLASS_SHARE)


def _numbers(
    target: Mapping[str, Any] | None, planned: PlannedTarget
) -> Iterator[tuple[str, Quantity]]:
    """Mean and deviation of a regression's numbers."""
    if target is None or target["mean"] is None:
        return
    scale = Scale(TARGET * planned.std)
    yield f"mean of {planned.name}", Quantity(target["mean"], scale)
    yield f"standard deviation of {planned.name}", Quantity(target["std"], scale)


def measure(
    volume: Path,
    class_voxels: Sequence[int] | None,
    plan: Plan,
    target: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """The quantities of one case, by name; no voxel is read.

    Args:
        volume: Its volume store.
        class_voxels: Voxels of each class in its predicted mask; None: there is none, and shares
            of classes are not compared.
        plan: The model's.
        target: ``mean`` and ``std`` of a regression's predicted numbers; None: not compared.

    Returns:
        Figures: shares from 0 to 1, lengths in the plan's unit, intensities in the image's own
        unit where one scaling serves all cases, else in standard deviations from the case's mean.

    Raises:
        CaseError: The volume cannot be predicted with this plan.
        StoreError: The store is absent, not complete, or of an earlier version.
    """
    found = quantities(VolumeStore(volume), class_voxels, target, plan)
    return {name: quantity.value for name, quantity in found.items()}
