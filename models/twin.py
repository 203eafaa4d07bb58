"""A copy of a network through which influence can be seen: linear, positive, one axis wide."""

from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

Convolution = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
MaxPool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
AveragePool = nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d
AVERAGE: dict[int, type[nn.AvgPool1d] | type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {
    1: nn.AvgPool1d,
    2: nn.AvgPool2d,
    3: nn.AvgPool3d,
}
# torch keeps the common base of batch norms and of instance norms under a private name.
RUNNING_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
WINDOW_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax),
)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
VOXELWISE = (*RUNNING_NORMS, *WINDOW_NORMS, *ACTIVATIONS, *DROPOUTS)


Signature = tuple[tuple[str, str], ...]


def positive_twin(model: nn.Module, axis: int, axes: int) -> nn.Module:
    """Give a float32 copy on the CPU whose gradients are positive wherever there is influence.

    Convolutions average over channels and over the kernel, max-pools become average-pools, norms,
    activations and dropout pass through: nothing can cancel or be switched off. After each
    convolution gradients are set to one where they are not zero, so that no depth makes them
    underflow.

    The copy is one channel wide, and its layers keep kernels and strides along ``axis`` alone:
    they act on boxes, so influence along one axis depends neither on features nor on the others.

    Args:
        model: The network; it stays as it is.
        axis: Spatial axis to keep.
        axes: Spatial axes of the network.

    Raises:
        ValueError: A max-pool is dilated, which no average-pool can be.
    """
    # Tensors that the copy finds in this table are shared with it, not copied: none is written.
    tensors: dict[int, Any] = {id(t): t for t in chain(model.parameters(), model.buffers())}
    return _narrow(deepcopy(model, tensors).eval(), axis, axes)


def signature(twin: nn.Module, axis: int) -> Signature:
    """Give the names of a twin's layers and what each does along its axis.

    Two twins of one class with the same signature influence alike, whatever axis they keep.
    """
    names = ("kernel_size", "stride", "padding", "output_padding", "dilation", "scale_factor")
    return tuple(
        (name, " ".join(str(_at(getattr(layer, key, None), axis)) for key in names))
        for name, layer in twin.named_modules()
        if not isinstance(layer, nn.Identity)
    )


class Narrow(nn.Module):
    """A convolution along one axis, of the mean of all channels: (B, F, *S) -> (B, 1, *S')."""

    def __init__(self, layer: Convolution, axis: int) -> None:
        """Keep the layer's kernel, stride, padding and dilation along ``axis``."""
        super().__init__()
        axes = len(layer.kernel_size)
        kernel = _along(layer.kernel_size, axis, axes)
        padding = layer.padding
        options: dict[str, Any] = {
            "stride": _along(layer.stride, axis, axes),
            "padding": padding if isinstance(padding, str) else _along(padding, axis, axes, 0),
            "dilation": _along(layer.dilation, axis, axes),
        }
        if isinstance(layer, Transposed):
            options["output_padding"] = _along(layer.output_padding, axis, axes, 0)
        options |= {"bias": False, "device": "cpu", "dtype": torch.float32}
        self.conv = type(layer)(1, 1, kernel, **options).requires_grad_(False)
        self.conv.weight.fill_(1 / kernel[axis])

    def forward(self, x: Tensor) -> Tensor:
        """Give the average; its gradient is marked on the way back."""
        average: Tensor = self.conv(x.mean(1, keepdim=True))
        if average.requires_grad:
            average.register_hook(_marked)  # type: ignore[no-untyped-call]
        return average


def _narrow(layer: nn.Module, axis: int, axes: int) -> nn.Module:
    if isinstance(layer, VOXELWISE):
        return nn.Identity()
    if isinstance(layer, Convolution):
        return Narrow(layer, axis)
    if isinstance(layer, MaxPool | AveragePool):
        return _average(layer, axis, axes)
    if isinstance(layer, nn.Upsample) and layer.scale_factor is not None:
        scale = _along(layer.scale_factor, axis, axes)
        return nn.Upsample(scale_factor=scale, mode=layer.mode, align_corners=layer.align_corners)
    for name, child in layer.named_children():
        setattr(layer, name, _narrow(child, axis, axes))
    return layer


def _average(pool: MaxPool | AveragePool, axis: int, axes: int) -> nn.Module:
    if isinstance(pool, MaxPool) and set(_along(pool.dilation, axis, axes)) != {1}:
        raise ValueError(
            f"{pool} is dilated: its reach cannot be measured, use a pool with dilation 1"
        )
    return AVERAGE[axes](
        _along(pool.kernel_size, axis, axes),
        _along(pool.stride, axis, axes),
        _along(pool.padding, axis, axes, 0),
        pool.ceil_mode,
    )


def _along(value: Any, axis: int, axes: int, other: int = 1) -> tuple[Any, ...]:
    """Give the value of one axis there, and ``other`` elsewhere."""
    values = value if isinstance(value, tuple) else (value,) * axes
    return tuple(side if here == axis else other for here, side in enumerate(values))


def _at(value: Any, axis: int) -> Any:
    return value[axis] if isinstance(value, tuple) else value


def _marked(gradient: Tensor) -> Tensor:
    return (gradient != 0).to(gradient.dtype)
