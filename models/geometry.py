"""What tiling must know about a network, measured from the network itself."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from models.base import NetworkSettings, Shape
from models.ensemble import Ensemble
from models.flip_mean import FlipMean
from models.network import Network
from models.twin import (
    RUNNING_NORMS,
    WINDOW_NORMS,
    Convolution,
    Signature,
    positive_twin,
    signature,
)

GLOBAL_LAYERS = (
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    nn.MultiheadAttention,
)
STRIPS = [2**n for n in range(8, 14)]
PROBES = 64


@dataclass(frozen=True)
class Influence:
    """How the input influences the output along one axis."""

    stride: int
    """Smallest shift of the input, in voxels, that only shifts the output."""
    before: int
    """Voxels before a stride-aligned output block that can influence it."""
    after: int
    """Voxels after it."""
    field: int
    """Voxels of the input that one output voxel sees; the most, over the voxels of a block."""


def total_stride(model: nn.Module) -> Shape:
    """Give the smallest shift of the input, in voxels per axis, that only shifts the output.

    Tiles start on multiples of it. Measured as :func:`reach`; where a layer sees the whole window,
    which no shift leaves alone, it is the input's size over the coarsest feature map's.

    Raises:
        ValueError: The model has no convolution, does not take the strip it is probed with, or its
            reach does not end within 8192 voxels.
    """
    if isinstance(model, Network) and _layer_that_sees_all(model) is not None:
        return model.settings.total_stride
    return tuple(along.stride for along in _influence(model))


def reach(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Give how far beyond a stride-aligned output block the input can influence it.

    Measured by gradient support (Luo et al., Understanding the Effective Receptive Field, NeurIPS
    2016) on a twin with positive weights, where nothing cancels. Norms count as constants, as
    batch norm is in evaluation. An output smaller than its input, as from unpadded convolutions,
    is taken to lie in its middle. The model and the random generators stay as they are.

    Layers must be modules: a max-pool called as a function passes gradient to one voxel only, and
    would be measured too small.

    Returns:
        Voxels before and voxels after the block, per axis.

    Raises:
        ValueError: A layer sees the whole window, or the reach does not end within 8192 voxels.
    """
    return tuple((along.before, along.after) for along in _influence(model))


def receptive_field(model: nn.Module) -> Shape | None:
    """Give the voxels of the input that one output voxel can see, per axis; None where it sees all.

    Voxels of a block see unequal numbers, the one that sees most counts. Measured as
    :func:`reach`.

    Raises:
        ValueError: The reach does not end within 8192 voxels.
    """
    if _layer_that_sees_all(model) is not None:
        return None
    return tuple(along.field for along in _influence(model))


def halo(model: nn.Module) -> Shape:
    """Give the voxels to read on each side of a block so that tiles meet without a seam.

    The larger side of :func:`reach`, rounded up to a multiple of the total stride, per axis.

    Raises:
        ValueError: As :func:`reach`.
    """
    measured = _influence(model)
    return tuple(-(-max(a.before, a.after) // a.stride) * a.stride for a in measured)


def tiles_exactly(model: nn.Module) -> bool:
    """Say whether, in evaluation, an output voxel depends on its reach alone and not on the window.

    False when any layer keeps statistics of the window (instance, group or layer norm, batch norm
    without running statistics), sees all of it (global pooling, attention) or stretches to its
    size (upsampling with aligned corners, or to a fixed size).
    """
    if _layer_that_sees_all(model) is not None:
        return False
    return not any(_depends_on_window(layer) for layer in model.modules())


def _depends_on_window(layer: nn.Module) -> bool:
    if isinstance(layer, RUNNING_NORMS):
        return layer.running_mean is None
    if isinstance(layer, nn.Upsample):
        return bool(layer.align_corners) or layer.size is not None
    return isinstance(layer, WINDOW_NORMS)


def _layer_that_sees_all(model: nn.Module) -> str | None:
    for name, layer in model.named_modules():
        if isinstance(layer, GLOBAL_LAYERS) or (isinstance(layer, Network) and layer.attends):
            return f"{name or 'all of it'} ({type(layer).__name__})"
    return None


def _influence(model: nn.Module) -> tuple[Influence, ...]:
    if (layer := _layer_that_sees_all(model)) is not None:
        raise ValueError(
            f"layer {layer} sees the whole window, so no halo is enough: blend the tiles of this "
            f"network"
        )
    if isinstance(model, Ensemble):
        return _influence(model.members[0])
    if isinstance(model, FlipMean):
        return _influence(model.network)
    if isinstance(model, Network):
        return _influence_of(type(model), model.settings)
    return _measured(model)


@lru_cache(maxsize=64)
def _influence_of(network: type[Network], settings: NetworkSettings) -> tuple[Influence, ...]:
    # Built without storage, the weights draw no random numbers: a run stays reproducible.
    with torch.device("meta"):
        model = network(settings)
    return _measured(model)


def _measured(model: nn.Module) -> tuple[Influence, ...]:
    axes, measured = _axes(model), list[Influence]()
    known: dict[Signature, Influence] = {}
    # The caller may be predicting, with gradients off and autocast on.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        for axis in range(axes):
            twin = positive_twin(model, axis, axes)
            along = signature(twin, axis)
            if along not in known:
                known[along] = _influence_along(twin, axis, axes)
            measured.append(known[along])
    return tuple(measured)


def _influence_along(twin: nn.Module, axis: int, axes: int) -> Influence:
    for least in STRIPS:
        size = least
        if isinstance(twin, Network):
            sizes = range(least, 2 * least)
            size = next(n for n in sizes if twin.settings.output_size(axis, n) is not None)
        # One probe says whether the strip is long enough; most strides show in a few.
        for probes in (1, PROBES, size // 4):
            start, seen = _support(twin, axis, axes, size, probes)
            if seen[:, 0].any() or seen[:, -1].any():
                break
            if stride := _period(seen):
                return _described(start, seen, stride)
    raise ValueError(
        f"the reach along axis {axis} does not end within {STRIPS[-1]} voxels: no halo is enough, "
        f"blend the tiles of this network"
    )


def _support(twin: nn.Module, axis: int, axes: int, size: int, probes: int) -> tuple[int, Tensor]:
    """Say which input positions of a strip influence which output positions in its middle.

    Returns:
        Where in the input the first of these output positions lies, and for each of them (rows)
        each input position (columns), (probes, size) boolean.
    """
    shape = [size if other == axis else 1 for other in range(axes)]
    x = torch.ones(1, 1, *shape, dtype=torch.float32, device="cpu", requires_grad=True)
    compute: Callable[[Tensor], Any] = twin.compute if isinstance(twin, Network) else twin
    try:
        logits: Tensor = compute(x)  # (1, K, *S)
        y = logits.mean(1).flatten()
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{type(twin).__name__} does not take a strip of {tuple(shape)} voxels, so its "
            f"geometry cannot be measured: use a network of convolutions, pools and upsampling"
        ) from error
    first = (len(y) - probes) // 2
    one_hot = torch.zeros(probes, len(y)).scatter_(1, first + torch.arange(probes)[:, None], 1)
    (gradients,) = torch.autograd.grad(y, x, one_hot, is_grads_batched=True)
    return first + (size - len(y)) // 2, gradients.flatten(1) != 0


def _period(seen: Tensor) -> int | None:
    """Give the smallest shift of the output that only shifts what it sees; None below half."""
    probes = len(seen)
    for shift in range(1, probes // 2 + 1):
        if torch.equal(seen[shift:, shift:], seen[: probes - shift, : seen.shape[1] - shift]):
            return shift
    return None


def _described(start: int, seen: Tensor, stride: int) -> Influence:
    aligned = -start % stride
    rows = [row.nonzero().flatten() for row in seen[aligned : aligned + stride]]
    lows, highs = [int(row[0]) for row in rows], [int(row[-1]) for row in rows]
    begin = start + aligned
    return Influence(
        stride=stride,
        before=begin - min(lows),
        after=max(highs) + 1 - (begin + stride),
        field=max(high + 1 - low for low, high in zip(lows, highs, strict=True)),
    )


def _axes(model: nn.Module) -> int:
    for layer in model.modules():
        if isinstance(layer, Convolution):
            return len(layer.kernel_size)
    raise ValueError(
        f"{type(model).__name__} has no convolution to measure: geometry is for convolutional "
        f"networks, (B, C, *S) -> (B, K, *S)"
    )
