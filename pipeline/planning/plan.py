"""Statistics of the stores → plan.json: what the network is and how it is fed.

The rules follow nnU-Net (Isensee et al. 2021) where they are rules; sizes follow the processor,
since ten minutes on two cores and a day on a GPU call for different networks. Every decision
carries its reason.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from models.losses import (
    CrossEntropySettings,
    DiceCESettings,
    LossSettings,
    SmoothL1Settings,
    output_channels,
)
from pipeline.errors import NothingUsableError, SettingsError
from pipeline.io.dataset import DataSettings
from pipeline.io.files import digest
from pipeline.io.manifest import usable_cases
from pipeline.network_tiling import machine_bytes, memory_bytes
from pipeline.plan_file import Plan, PlannedClass, read_plan, write_plan
from pipeline.planning.fingerprint import Fingerprint, fingerprint
from pipeline.planning.intensities import plan_normalisation, plan_target
from pipeline.planning.network import plan_training
from pipeline.planning.settings import PlanSettings
from pipeline.planning.spacing import plan_spacing

STAGE = "plan"
VERSION = 5
"""Raised when the same statistics would give another plan."""


def make_plan(
    data: DataSettings,
    settings: PlanSettings,
    found: Fingerprint,
    key: str,
    processor: str,
    memory_bytes: int | None = None,
) -> Plan:
    """Decide. A pure function of its arguments.

    Raises:
        SettingsError: A decision already taken does not fit the dataset.
        NothingUsableError: The training cases have no truth.
    """
    reasons: dict[str, str] = {}
    _look_for_classes(data, found, reasons)
    found, resample = plan_spacing(found, settings, reasons)
    loss = _loss(data, settings, found, reasons)
    background = data.background is None
    outputs = output_channels(loss, classes=len(data.classes) or 1, background=background)
    trained = plan_training(found, settings, processor, outputs, memory_bytes, reasons)
    try:
        return Plan(
            key=key,
            ndim=found.ndim,  # type: ignore[arg-type]
            channels=found.channels,
            classes=tuple(PlannedClass(name=c.name, background=c.background) for c in data.classes),
            target=plan_target(data, found) if data.task == "regression" else None,
            spacing=found.spacing,
            resample=resample,
            trained_spacings=found.spacing_range,
            unit=found.unit,
            normalisation=plan_normalisation(data, settings, found, reasons),
            patch_shape=trained.patch_shape,
            batch_size=trained.batch_size,
            network=trained.network,
            loss=loss,
            reasons=reasons,
        )
    except ValueError as error:  # pydantic's own is one
        raise SettingsError(f"plan: {_first(error)}") from error


def _look_for_classes(data: DataSettings, found: Fingerprint, reasons: dict[str, str]) -> None:
    """Say which classes cannot be learnt.

    Raises:
        NothingUsableError: None can.
    """
    counted = [s["class_voxels"] for s in found.statistics if s.get("class_voxels")]
    if data.task == "regression" or not counted:
        return
    voxels = np.sum(counted, axis=0)
    wanted = [(c.name, n) for c, n in zip(data.classes, voxels, strict=True) if not c.background]
    absent = [name for name, n in wanted if n == 0]
    if not absent:
        return
    if len(absent) == len(wanted):
        raise NothingUsableError(
            f"no training case has a labelled voxel of {', '.join(absent)}: there is nothing to "
            "learn; compare data.classes and data.ignore_values with the values of the masks, "
            "which `segflow check` lists, or add cases that hold them"
        )
    reasons["classes"] = (
        f"no training case has a voxel of {', '.join(absent)}: the network cannot learn it and "
        "will never draw it; add cases that have it, or leave it out of data.classes"
    )


def _memory(settings: PlanSettings, processor: str) -> int | None:
    """What a training step may hold, in bytes; None of a GPU that this machine has not."""
    if settings.memory_gb is not None:
        return int(settings.memory_gb * 2**30)
    if processor == "cpu":
        return machine_bytes() // 2
    return int(0.9 * memory_bytes()) if torch.cuda.is_available() else None


def _loss(
    data: DataSettings, settings: PlanSettings, found: Fingerprint, reasons: dict[str, str]
) -> LossSettings:
    regression = data.task == "regression"
    default = SmoothL1Settings() if regression else DiceCESettings()
    loss = settings.loss or default
    reasons["loss"] = (
        f"set in plan.loss: {loss.kind}"
        if settings.loss
        else "smooth L1: as squared error, but outliers do not rule"
        if regression
        else "Dice, which rare classes need, plus cross-entropy, which learns steadily"
    )
    if not settings.balance_classes:
        return loss
    if not isinstance(loss, CrossEntropySettings) or loss.class_weights is not None:
        raise SettingsError(
            "plan.balance_classes sets the class weights of plan.loss {kind: ce}: leave it out, "
            "or choose that loss without class_weights"
        )
    reasons["loss"] += "; classes weigh the inverse of their share of the voxels"
    return loss.model_copy(update={"class_weights": _balanced(found)})


def _balanced(found: Fingerprint) -> tuple[float, ...]:
    """Weights by which every class has the same sum, and a voxel weighs one on average."""
    voxels = np.sum([s["class_voxels"] for s in found.statistics], axis=0, dtype=np.float64)
    present = voxels > 0
    weights = np.where(present, voxels.sum() / (present.sum() * voxels.clip(min=1)), 0.0)
    return tuple(float(w) for w in weights)


def _first(error: ValueError) -> str:
    listed = getattr(error, "errors", None)
    return str(listed()[0]["msg"]).removeprefix("Value error, ") if listed else str(error)


def plan(
    data: DataSettings,
    settings: PlanSettings,
    *,
    manifest: Path,
    volumes: Path,
    path: Path,
    processor: str,
) -> Plan:
    """Make plan.json, or keep the one that stands if nothing it rests on has changed.

    A plan that is replaced stays beside it as ``plan.former.json``.

    Only training cases count: held-out ones must not shape what they judge.

    Args:
        data: The dataset.
        settings: Decisions already taken.
        manifest: The cases.
        volumes: Folder of their stores.
        path: plan.json.
        processor: ``cpu`` or ``cuda``: what this machine has, for ``processor: auto``.

    Raises:
        NothingUsableError: There is no training case.
    """
    if settings.processor != "auto":
        processor = settings.processor
    rows = usable_cases(manifest, ["train"], volumes)
    key = digest(
        VERSION,
        [(row.id, row.key) for row in rows],
        data.model_dump(mode="json", include={"task", "classes", "target", "modality"}),
        settings.model_dump(mode="json"),
        processor,
    )
    if path.exists() and (standing := read_plan(path)).key == key:
        return standing
    if path.exists():
        # It may hold edits; what they rested on has changed, but they are not thrown away.
        os.replace(path, path.with_name("plan.former.json"))
    memory = _memory(settings, processor)
    made = make_plan(data, settings, fingerprint(rows, volumes), key, processor, memory)
    write_plan(path, made)
    return made
