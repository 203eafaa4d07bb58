"""What tiling must know about a network, measured from the network itself."""

from copy import deepcopy
from itertools import takewhile

import torch
from torch import Tensor, nn

from models.sizes import Shape, fitting_shape
from models.twin import RUNNING_NORMS, WINDOW_NORMS, Convolution, MaxPool, positive_twin
from models.unet import UNet

GLOBAL_LAYERS = (
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    nn.MultiheadAttention,
)
PROBE_SIDE = 256
MAX_STRIP = 8192
# Total strides in a strip. 17 leave 8 on either side of the middle one, 3x3 U-Nets reach 6.
STRIP_BLOCKS = [2**n + 1 for n in range(4, 13)]


def total_stride(model: nn.Module) -> Shape:
    """Give the smallest shift of the input, in voxels per axis, that only shifts the output.

    Tiles start on multiples of it. A network that knows its own is asked; of any other it is the
    ratio of the input to the smallest feature map.

    Raises:
        ValueError: The model has no convolution, or does not take an input of 256 voxels a side.
    """
    own: Shape | None = getattr(model, "total_stride", None)
    return own if own is not None else _stride_of_feature_maps(model)


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
    for name, layer in model.named_modules():
        if isinstance(layer, GLOBAL_LAYERS):
            raise ValueError(
                f"layer {name} ({type(layer).__name__}) sees the whole window, so no halo is "
                f"enough: blend the tiles of this network"
            )
    axes = range(len(total_stride(model)))
    # The caller may be predicting, with gradients off and autocast on.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        return tuple(_reach_along(axis, positive_twin(model, axis)) for axis in axes)


def halo(model: nn.Module) -> Shape:
    """Give the voxels to read on each side of a block so that tiles meet without a seam.

    The larger side of :func:`reach`, rounded up to a multiple of the total stride, per axis.

    Raises:
        ValueError: As :func:`reach`.
    """
    sides = zip(reach(model), total_stride(model), strict=True)
    return tuple(-(-max(side) // step) * step for side, step in sides)


def tiles_exactly(model: nn.Module) -> bool:
    """Say whether, in evaluation, an output voxel depends on its reach alone and not on the window.

    False when any layer keeps statistics of the window (instance, group or layer norm, batch norm
    without running statistics), sees all of it (global pooling, attention) or stretches to its
    size (upsampling with aligned corners).
    """
    return not any(_depends_on_window(layer) for layer in model.modules())


def _depends_on_window(layer: nn.Module) -> bool:
    if isinstance(layer, RUNNING_NORMS):
        return layer.running_mean is None
    if isinstance(layer, nn.Upsample):
        return bool(layer.align_corners)
    return isinstance(layer, (*WINDOW_NORMS, *GLOBAL_LAYERS))


def _reach_along(axis: int, twin: nn.Module) -> tuple[int, int]:
    stride = total_stride(twin)
    step = stride[axis]
    for blocks in takewhile(lambda n: n * step <= MAX_STRIP, STRIP_BLOCKS):
        start = blocks // 2 * step
        # Other axes do not widen the reach along this one, so the strip is thin.
        strip = [blocks * step if other == axis else n for other, n in enumerate(stride)]
        influence = _influence(twin, strip, axis, start, start + step)
        if not (influence[0] or influence[-1]):
            first, *_, last = influence.nonzero().flatten().tolist()
            return start - first, last + 1 - (start + step)
    raise ValueError(
        f"the reach along axis {axis} does not end within {MAX_STRIP} voxels: no halo is enough, "
        f"blend the tiles of this network"
    )


def _influence(twin: nn.Module, strip: list[int], axis: int, start: int, stop: int) -> Tensor:
    """Say for each input position along an axis whether it influences output [start, stop)."""
    shape = fitting_shape(twin.settings, strip) if isinstance(twin, UNet) else strip
    channels = _first_convolution(twin).in_channels
    x = torch.ones(1, channels, *shape, dtype=torch.float64, device="cpu", requires_grad=True)
    y = twin(x)  # (1, C, *S) -> (1, K, *S)
    margin = (x.shape[axis + 2] - y.shape[axis + 2]) // 2
    block = y.narrow(axis + 2, start - margin, stop - start)
    (gradient,) = torch.autograd.grad(block.sum(), x)
    return (gradient != 0).movedim(axis + 2, 0).flatten(1).any(1)


def _stride_of_feature_maps(model: nn.Module) -> Shape:
    probe = deepcopy(model).to("meta", torch.float32).eval()  # shapes without numbers
    sizes: list[Shape] = []
    for layer in probe.modules():
        if isinstance(layer, Convolution | MaxPool):
            layer.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[2:])))
    first = _first_convolution(probe)
    shape = (PROBE_SIDE,) * len(first.kernel_size)
    try:
        probe(torch.empty(1, first.in_channels, *shape, dtype=torch.float32, device="meta"))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{type(model).__name__} does not take {shape} voxels, so its total stride cannot be "
            f"measured: give the class an attribute total_stride"
        ) from error
    return tuple(PROBE_SIDE // min(axis) for axis in zip(*sizes, strict=True))


def _first_convolution(model: nn.Module) -> Convolution:
    for layer in model.modules():
        if isinstance(layer, Convolution):
            return layer
    raise ValueError(
        f"{type(model).__name__} has no convolution to measure: geometry is for convolutional "
        f"networks, (B, C, *S) -> (B, K, *S)"
    )
