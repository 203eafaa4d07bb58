"""Statistics of the stores → plan.json: what the network is and how it is fed.

The rules follow nnU-Net (Isensee et al. 2021) where they are rules; sizes follow the processor,
since ten minutes on two cores and a day on a GPU call for different networks. Every decision
carries its reason.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models import UNetSettings
from pipeline.errors import NothingUsableError, SettingsError
from pipeline.io.dataset import DataSettings
from pipeline.io.files import digest
from pipeline.io.manifest import ManifestRow, usable_cases
from pipeline.io.volume_store import VolumeStore
from pipeline.normalise import Normalisation, Scaling
from pipeline.plan_file import Plan, PlannedClass, read_plan, write_plan
from pipeline.space import Shape

STAGE = "plan"
VERSION = 1
"""Raised when the same statistics would give another plan."""


class PlanSettings(BaseModel):
    """Decisions taken out of the planner's hands; null leaves them to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    processor: Literal["auto", "cpu", "cuda"] = "auto"
    """The processor the network is sized for; ``auto``: the one of this machine."""
    patch_shape: tuple[Annotated[int, Field(ge=8)], ...] | None = None
    """Voxels of a training patch; rounded up to the network's stride."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Patches per step."""
    base_features: Annotated[int, Field(ge=4)] | None = None
    """Feature maps of the first stage; they double per stage."""
    stages: Annotated[int, Field(ge=2, le=8)] | None = None
    """Resolutions of the network."""
    norm: Literal["batch", "instance", "group", "none"] = "batch"
    """Normalisation in the network; only batch and none give seam-free masks."""
    normalisation: Literal["auto", "case", "dataset"] = "auto"
    """Intensities: z-score per case, or one scaling for the dataset."""


@dataclass(frozen=True)
class Size:
    """What a processor trains well in the time people have."""

    patch_voxels: int
    batch_size: int
    base_features: int
    most_features: int


SIZES = {
    ("cpu", 2): Size(256 * 256, 4, 16, 256),
    ("cpu", 3): Size(64**3, 2, 16, 256),
    ("cuda", 2): Size(512 * 512, 12, 32, 512),
    ("cuda", 3): Size(128**3, 2, 32, 320),
}


@dataclass(frozen=True)
class Fingerprint:
    """What the stores say of the dataset."""

    ndim: int
    channels: tuple[str, ...]
    median_shape: Shape
    spacing: tuple[float, ...]
    unit: str | None
    scenes: bool
    dtype: str
    cases: int
    statistics: tuple[dict[str, Any], ...]


def fingerprint(rows: Sequence[ManifestRow], volumes: Path) -> Fingerprint:
    """Gather what the planner needs from the stores' attributes; reads no voxel.

    Args:
        rows: Training cases, of one kind.
        volumes: Folder of their stores.
    """
    stores = [VolumeStore(volumes / row.store) for row in rows]
    first = stores[0]
    return Fingerprint(
        ndim=len(first.grid.shape),
        channels=first.channels,
        median_shape=tuple(int(n) for n in np.median([s.grid.shape for s in stores], axis=0)),
        spacing=tuple(float(v) for v in np.median([s.grid.spacing for s in stores], axis=0)),
        unit=first.grid.unit,
        scenes=first.grid.crs is not None,
        dtype=str(first.dtype),
        cases=len(stores),
        statistics=tuple(s.statistics for s in stores),
    )


def make_plan(
    data: DataSettings, settings: PlanSettings, found: Fingerprint, key: str, processor: str
) -> Plan:
    """Decide. A pure function of its arguments."""
    reasons: dict[str, str] = {}
    size = SIZES[processor, found.ndim]
    strides = _strides(found, settings, size, reasons)
    total = [prod(axis) for axis in zip(*strides, strict=True)]
    patch = _patch_shape(found, settings, size, total, reasons)
    base = settings.base_features or size.base_features
    features = tuple(min(base * 2**i, size.most_features) for i in range(len(strides)))
    reasons["network"] = (
        f"{len(strides)} stages of {', '.join(map(str, features))} features: what a "
        f"{processor.upper()} trains in the time people have; {settings.norm} norm"
        + (", which tiles without seams" if settings.norm in ("batch", "none") else "")
    )
    reasons["batch_size"] = (
        "set in plan.batch_size" if settings.batch_size else f"sized for a {processor.upper()}"
    )
    return Plan(
        key=key,
        ndim=found.ndim,  # type: ignore[arg-type]
        channels=found.channels,
        classes=tuple(PlannedClass(name=c.name, background=c.background) for c in data.classes),
        spacing=found.spacing,
        unit=found.unit,
        normalisation=_normalisation(data, settings, found, reasons),
        patch_shape=patch,
        batch_size=settings.batch_size or size.batch_size,
        network=UNetSettings(
            ndim=found.ndim,  # type: ignore[arg-type]
            in_channels=len(found.channels),
            out_channels=len(data.classes),
            features=features,
            strides=tuple(strides),
            kernels=_kernels(found, strides),
            norm=settings.norm,
        ),
        reasons=reasons,
    )


def _strides(
    found: Fingerprint, settings: PlanSettings, size: Size, reasons: dict[str, str]
) -> list[Shape]:
    """Halve an axis per stage while it keeps 4 voxels and is not coarser than twice the finest."""
    extent = np.array(_fitted(found.median_shape, size.patch_voxels), dtype=float)
    spacing = np.array(found.spacing)
    strides: list[Shape] = [(1,) * found.ndim]
    most = settings.stages or (5 if found.ndim == 3 else 6)
    while len(strides) < most:
        halve = (extent / 2 >= 4) & (spacing < 2 * spacing.min() + 1e-9)
        if settings.stages is None and not halve.any():
            break
        step = tuple(2 if h else 1 for h in halve)
        strides.append(step)
        extent, spacing = extent / step, spacing * step
    reasons["stages"] = (
        "set in plan.stages"
        if settings.stages
        else f"axes of the patch are halved while they keep 4 voxels, at most {most} stages"
    )
    return strides


def _fitted(shape: Shape, voxels: int) -> Shape:
    """Shrink the longest axes until the box has no more than ``voxels``."""
    fitted = list(shape)
    while prod(fitted) > voxels:
        longest = max(range(len(fitted)), key=lambda a: fitted[a])
        fitted[longest] = int(fitted[longest] * 0.9)
    return tuple(fitted)


def _patch_shape(
    found: Fingerprint,
    settings: PlanSettings,
    size: Size,
    stride: Sequence[int],
    reasons: dict[str, str],
) -> Shape:
    wanted = settings.patch_shape or _fitted(found.median_shape, size.patch_voxels)
    if len(wanted) != found.ndim:
        raise SettingsError(
            f"plan.patch_shape {wanted} has {len(wanted)} axes, the images {found.ndim}"
        )
    reasons["patch_shape"] = (
        "set in plan.patch_shape"
        if settings.patch_shape
        else f"the median image {found.median_shape}, at most {size.patch_voxels} voxels"
    ) + f", in multiples of the network's stride {tuple(stride)}"
    return tuple(max(s, -(-n // s) * s) for n, s in zip(wanted, stride, strict=True))


def _kernels(found: Fingerprint, strides: Sequence[Shape]) -> tuple[Shape, ...]:
    """3 along every axis, but 1 across slices that are still more than twice as far apart."""
    spacing = np.array(found.spacing)
    kernels = []
    for step in strides:
        spacing = spacing * step
        kernels.append(tuple(1 if s > 2 * spacing.min() + 1e-9 else 3 for s in spacing))
    return tuple(kernels)


def _normalisation(
    data: DataSettings, settings: PlanSettings, found: Fingerprint, reasons: dict[str, str]
) -> Normalisation:
    calibrated = data.modality == "ct" or found.scenes or len(found.channels) > 1
    kind = settings.normalisation
    if kind == "auto":
        kind = "dataset" if calibrated else "case"
    if kind == "case":
        reasons["normalisation"] = (
            "each case by its own mean and standard deviation: intensities have no common scale"
        )
        return Normalisation(kind="case")
    if data.modality == "ct":
        reasons["normalisation"] = (
            "Hounsfield units: clipped to the foreground's 0.5 and 99.5 percentiles and scaled by "
            "its mean and standard deviation, over the dataset"
        )
        return Normalisation(kind="dataset", channels=_foreground_scalings(found))
    reasons["normalisation"] = (
        "each channel by its mean and standard deviation over the dataset: colours and bands mean "
        "the same in every image"
    )
    return Normalisation(kind="dataset", channels=_dataset_scalings(found))


def _dataset_scalings(found: Fingerprint) -> tuple[Scaling, ...]:
    counts = np.array([s["valid_voxels"] for s in found.statistics], dtype=np.float64)
    scalings = []
    for c in range(len(found.channels)):
        means = np.array([s["channels"][c]["mean"] for s in found.statistics])
        stds = np.array([s["channels"][c]["std"] for s in found.statistics])
        mean = float(np.average(means, weights=counts))
        variance = float(np.average(stds**2 + (means - mean) ** 2, weights=counts))
        scalings.append(Scaling(mean=mean, std=variance**0.5 or 1.0))
    return tuple(scalings)


def _foreground_scalings(found: Fingerprint) -> tuple[Scaling, ...]:
    known = [s["foreground"] for s in found.statistics if s["foreground"]]
    if not known:
        raise NothingUsableError("no case has a foreground voxel: nothing can be learnt from it")
    scalings = []
    for c in range(len(found.channels)):
        mean = float(np.mean([f[c]["mean"] for f in known]))
        variance = float(np.mean([f[c]["std"] ** 2 + (f[c]["mean"] - mean) ** 2 for f in known]))
        lower = float(np.mean([f[c]["percentiles"]["0.5"] for f in known]))
        upper = float(np.mean([f[c]["percentiles"]["99.5"] for f in known]))
        scalings.append(Scaling(mean=mean, std=variance**0.5 or 1.0, lower=lower, upper=upper))
    return tuple(scalings)


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
        data.model_dump(mode="json", include={"classes", "modality"}),
        settings.model_dump(mode="json"),
        processor,
    )
    if path.exists() and (standing := read_plan(path)).key == key:
        return standing
    if path.exists():
        # It may hold edits; what they rested on has changed, but they are not thrown away.
        os.replace(path, path.with_name("plan.former.json"))
    made = make_plan(data, settings, fingerprint(rows, volumes), key, processor)
    write_plan(path, made)
    return made
