"""A copy of a network through which influence can be seen: linear, with positive weights only."""

from copy import deepcopy
from math import prod

import torch
from torch import Tensor, nn

from models.settings import UNetSettings
from models.unet import UNet

Convolution = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)
MaxPool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
AVERAGE: dict[type[nn.Module], type[nn.AvgPool1d] | type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {
    nn.MaxPool1d: nn.AvgPool1d,
    nn.MaxPool2d: nn.AvgPool2d,
    nn.MaxPool3d: nn.AvgPool3d,
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


def positive_twin(model: nn.Module, axis: int) -> nn.Module:
    """Give a float64 copy on the CPU whose gradients are positive wherever there is influence.

    Convolutions average, max-pools become average-pools, norms, activations and dropout pass
    through: nothing can cancel or be switched off. After each convolution gradients are set to
    one where they are not zero, so that no depth makes them underflow.

    A :class:`UNet` is rebuilt small: one feature per stage, kernels and strides kept along ``axis``
    and one voxel along the others. Its layers act on boxes, so influence along one axis depends
    neither on features nor on the other axes. Other networks are copied whole.

    Raises:
        ValueError: A max-pool is dilated, which no average-pool can be.
    """
    twin = _slim(model.settings, axis) if isinstance(model, UNet) else deepcopy(model).cpu()
    twin = _linear(twin.double().eval()).requires_grad_(False)
    for layer in twin.modules():
        if isinstance(layer, Convolution | nn.Linear):
            layer.weight.fill_(1 / _fan_in(layer))
            if layer.bias is not None:
                layer.bias.zero_()
            layer.register_forward_hook(_mark_on_the_way_back)
    return twin


def _slim(settings: UNetSettings, axis: int) -> nn.Module:
    def along(sides: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(side if other == axis else 1 for other, side in enumerate(sides))

    small = {
        "in_channels": 1,
        "out_channels": 1,
        "features": (1,) * len(settings.features),
        "strides": tuple(along(stride) for stride in settings.strides),
        "kernels": tuple(along(kernel) for kernel in settings.kernels),
    }
    # Built without storage, the weights draw no random numbers: a run stays reproducible.
    with torch.device("meta"):
        twin = UNet(settings.model_copy(update=small))
    return twin.to_empty(device="cpu")


def _linear(layer: nn.Module) -> nn.Module:
    if isinstance(layer, VOXELWISE):
        return nn.Identity()
    if isinstance(layer, MaxPool):
        return _average(layer)
    for name, child in layer.named_children():
        setattr(layer, name, _linear(child))
    return layer


def _average(pool: MaxPool) -> nn.Module:
    dilation = pool.dilation if isinstance(pool.dilation, tuple) else (pool.dilation,)
    if any(step != 1 for step in dilation):
        raise ValueError(
            f"{pool} is dilated: its reach cannot be measured, use a pool with dilation 1"
        )
    average = AVERAGE[type(pool)]
    return average(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)  # type: ignore[arg-type]


def _fan_in(layer: Convolution | nn.Linear) -> int:
    if isinstance(layer, nn.Linear):
        return layer.in_features
    return layer.in_channels // layer.groups * prod(layer.kernel_size)


def _mark_on_the_way_back(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(_marked)  # type: ignore[no-untyped-call]


def _marked(gradient: Tensor) -> Tensor:
    return (gradient != 0).to(gradient.dtype)
