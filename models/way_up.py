"""How little of a U-Net's way up a box of its output needs: arithmetic on settings, no tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from models.base import Shape
from models.unet_settings import UNetSettings

Box: TypeAlias = tuple[tuple[int, int], ...]
"""First voxel, and the one after the last, per axis."""


@dataclass(frozen=True)
class StageNeed:
    """What one stage of the way up works on, for a box of the output."""

    given: Box
    """Voxels of the stage that its convolutions see: those that are wanted, and their reach."""
    below: Box
    """Voxels of the stage below that these are enlarged from."""
    enlarged: Box
    """Voxels of the stage that the latter become."""


def is_local(settings: UNetSettings) -> bool:
    """Say whether boxes of a network can be computed by themselves.

    No layer may see the whole window, and what lies past an edge must be zeros, not nothing.
    """
    sees_all = settings.norm in ("instance", "group") or settings.align_corners
    return settings.padding == "same" and not sees_all


def needs(settings: UNetSettings, shape: Sequence[int], box: Box) -> list[StageNeed]:
    """Give what each stage of the way up needs, top first.

    Convolutions meet zeros at the edge of what they are given, which falsifies as many voxels as
    they reach: these are never wanted, unless the edge is the image's own.

    Args:
        settings: Of a network that is local.
        shape: Input's spatial shape, which fits.
        box: Of the output, what is wanted.
    """
    found: list[StageNeed] = []
    wanted, sizes = box, tuple(shape)
    linear = settings.upsampling != "transposed"
    for kernels, strides in zip(settings.kernels[:-1], settings.strides[1:], strict=True):
        reach = tuple(settings.convs_per_stage * (kernel // 2) for kernel in kernels)
        given = _clipped([(a - r, b + r) for (a, b), r in zip(wanted, reach, strict=True)], sizes)
        sizes = tuple(n // step for n, step in zip(sizes, strides, strict=True))
        # Linear interpolation looks at one neighbour more.
        beyond = [int(linear and step > 1) for step in strides]
        below = _clipped(
            [
                (a // step - more, -(-b // step) + more)
                for (a, b), step, more in zip(given, strides, beyond, strict=True)
            ],
            sizes,
        )
        enlarged = tuple((a * step, b * step) for (a, b), step in zip(below, strides, strict=True))
        found.append(StageNeed(given, below, enlarged))
        wanted = below
    return found


def kept_features(settings: UNetSettings) -> float:
    """Give the numbers that wait for the way up, for each voxel of the input."""
    total, voxels = 0.0, 1
    for features, strides in zip(settings.features, settings.strides, strict=True):
        voxels *= prod(strides)
        total += features / voxels
    return total


def rim(settings: UNetSettings) -> Shape:
    """Give the voxels around a box of the output that the first stage works on besides."""
    if len(settings.strides) == 1:
        return (0,) * settings.ndim
    found = []
    for kernel, step in zip(settings.kernels[0], settings.strides[1], strict=True):
        reach = settings.convs_per_stage * (kernel // 2)
        beyond = settings.upsampling != "transposed" and step > 1
        found.append((-(-reach // step) + beyond) * step)
    return tuple(found)


def _clipped(box: Sequence[tuple[int, int]], shape: Shape) -> Box:
    return tuple((max(0, a), min(b, n)) for (a, b), n in zip(box, shape, strict=True))
