"""Which network, on which patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from models import (
    ModelSettings,
    UNetSettings,
    fitting_shape,
    margins,
    outline,
    preset,
    training_memory,
)
from pipeline.errors import SettingsError
from pipeline.planning.fingerprint import Fingerprint
from pipeline.planning.settings import PlanSettings
from pipeline.space import Shape

GIB = 2**30
LEAST_VOXELS = 4096
"""Patches do not shrink below so many voxels."""


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
class Trained:
    """A network and the batches it is trained on."""

    network: ModelSettings
    """The network."""
    patch_shape: Shape
    """Voxels of a patch, as the network sees it."""
    batch_size: int
    """Patches per step."""


def plan_training(
    found: Fingerprint,
    settings: PlanSettings,
    processor: str,
    outputs: int,
    memory_bytes: int | None,
    reasons: dict[str, str],
) -> Trained:
    """Decide on network, patch and batch: as large as the processor trains well, and as fits.

    Where memory is short the batch falls to two patches, then patches shrink, and the network with
    them: a network sees more in a larger patch, and two keep batch norm alive.

    Args:
        found: The dataset.
        settings: Decisions already taken.
        processor: ``cpu`` or ``cuda``.
        outputs: Channels of the network's output.
        memory_bytes: What a training step may hold; None: no matter.
        reasons: Receives why.

    Raises:
        SettingsError: There is no such network, or it has no such option or axes.
    """
    size = SIZES[processor, found.ndim]
    while True:
        made = _plan_training(found, settings, size, outputs, reasons)
        batch = settings.batch_size or size.batch_size
        reasons["batch_size"] = (
            "set in plan.batch_size" if settings.batch_size else f"sized for a {processor.upper()}"
        )
        if memory_bytes is None:
            return Trained(*made, batch)
        network, patch = made
        least = settings.batch_size or min(2, batch)
        while step_bytes(network, patch, batch) > memory_bytes and batch > least:
            batch = max(least, batch // 2)  # which processes can share
            reasons["batch_size"] = "as many as fit in memory"
        needed = step_bytes(network, patch, batch)
        fits = needed <= memory_bytes
        reasons["memory"] = (
            f"a training step holds about {needed / GIB:.2g} GB of the {memory_bytes / GIB:.3g} it "
            "may"
        )
        smaller = replace(size, patch_voxels=int(0.8 * size.patch_voxels))
        if fits or settings.patch_shape is not None or smaller.patch_voxels < LEAST_VOXELS:
            if not fits:
                reasons["memory"] += (
                    ": more than there is; lower plan.base_features or plan.patch_shape"
                )
            return Trained(network, patch, batch)
        size = smaller


def step_bytes(network: ModelSettings, patch: Shape, batch: int) -> int:
    """What a training step is expected to hold, with the weights and what is kept of each.

    A bfloat16 step, as it is where it pays; a step in float32 holds up to twice as much.
    """
    memory = training_memory(network, torch.bfloat16)
    weights = sum(p.numel() * p.element_size() for p in outline(network).parameters())
    # Weights, their running mean, gradients, and two moments of an optimiser.
    return memory.bytes(batch * prod(patch)) + 5 * weights


def _plan_training(
    found: Fingerprint, settings: PlanSettings, size: Size, outputs: int, reasons: dict[str, str]
) -> tuple[ModelSettings, Shape]:
    network = plan_network(found, settings, size, outputs, reasons)
    return network, plan_patch_shape(found, settings, size, network, reasons)


def plan_network(
    found: Fingerprint,
    settings: PlanSettings,
    size: Size,
    outputs: int,
    reasons: dict[str, str],
) -> ModelSettings:
    """Decide on the network.

    Args:
        found: The dataset.
        settings: Decisions already taken.
        size: What the processor trains well.
        outputs: Channels of the network's output.
        reasons: Receives why.

    Raises:
        SettingsError: There is no such network, or it has no such option.
    """
    ends: dict[str, Any] = {"ndim": found.ndim, "out_channels": outputs}
    ends["in_channels"] = len(found.channels)
    if settings.network is None:
        made: ModelSettings = _own(found, settings, size, ends, reasons)
    else:
        try:
            made = preset(settings.network, **ends)
        except ValueError as error:
            raise SettingsError(f"plan.network: {error}") from error
        reasons["network"] = f"set in plan.network: {settings.network}, as published"
    if not settings.network_options:
        return made
    reasons["network"] += f"; but for {', '.join(settings.network_options)}"
    changed = made.model_dump() | settings.network_options
    try:
        return TypeAdapter(ModelSettings).validate_python(changed)
    except ValidationError as error:
        first: Any = error.errors()[0]
        key = ".".join(map(str, first["loc"][1:]))
        raise SettingsError(f"plan.network_options.{key}: {first['msg']}") from error


def _own(
    found: Fingerprint,
    settings: PlanSettings,
    size: Size,
    ends: dict[str, Any],
    reasons: dict[str, str],
) -> UNetSettings:
    strides = planned_strides(found, settings, size, reasons)
    base = settings.base_features or size.base_features
    features = tuple(min(base * 2**i, size.most_features) for i in range(len(strides)))
    reasons["network"] = (
        f"{len(strides)} stages of {', '.join(map(str, features))} features: what this processor "
        f"trains in the time people have; {settings.norm} norm"
        + (", which tiles without seams" if settings.norm in ("batch", "none") else "")
        + "; coarser stages learn to label too (deep supervision)"
    )
    return UNetSettings(
        **ends,
        features=features,
        strides=tuple(strides),
        kernels=_kernels(found, strides),
        norm=settings.norm,
        deep_supervision=max(0, len(strides) - 2),
    )


def planned_strides(
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


def plan_patch_shape(
    found: Fingerprint,
    settings: PlanSettings,
    size: Size,
    network: ModelSettings,
    reasons: dict[str, str],
) -> Shape:
    """Decide on the voxels of a training patch, as the network sees it.

    An unpadded network is shown a patch larger than what it labels, by its margins.

    Raises:
        SettingsError: The shape that is set has other axes than the images.
    """
    wanted = settings.patch_shape
    if wanted is not None and len(wanted) != found.ndim:
        raise SettingsError(
            f"plan.patch_shape {wanted} has {len(wanted)} axes, the images {found.ndim}"
        )
    lost = margins(network)
    if wanted is None:
        labelled = _fitted(found.median_shape, size.patch_voxels)
        wanted = tuple(n + 2 * m for n, m in zip(labelled, lost, strict=True))
        reasons["patch_shape"] = (
            f"the median image {found.median_shape}, at most the {size.patch_voxels} voxels that "
            "the processor trains well and memory holds"
        )
        if any(lost):
            reasons["patch_shape"] += f", and {lost} more on each side, which the network eats up"
    else:
        reasons["patch_shape"] = "set in plan.patch_shape"
    reasons["patch_shape"] += f", in steps of the network's stride {network.total_stride}"
    return fitting_shape(network, wanted)


def _kernels(found: Fingerprint, strides: Sequence[Shape]) -> tuple[Shape, ...]:
    """3 along every axis, but 1 across slices that are still more than twice as far apart."""
    spacing = np.array(found.spacing)
    kernels = []
    for step in strides:
        spacing = spacing * step
        kernels.append(tuple(1 if s > 2 * spacing.min() + 1e-9 else 3 for s in spacing))
    return tuple(kernels)
