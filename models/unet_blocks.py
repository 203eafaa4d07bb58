"""What the stages of a U-Net are made of, in two and three dimensions."""

from collections import OrderedDict
from itertools import pairwise
from math import gcd, prod, sqrt
from typing import Literal

from torch import Tensor, nn

from models.base import Shape
from models.unet_settings import UNetSettings
from models.variant_settings import DenseUNetSettings

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
INSTANCE_NORM: dict[int, type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]] = {
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}
LEAK = 0.01
GROUPS = 8
Path = Literal["down", "up"]


class LinearUpsampling(nn.Module):
    """Enlarge by linear interpolation: (B, F, *S) -> (B, G, *S * stride)."""

    def __init__(self, settings: UNetSettings, inputs: int, outputs: int, stride: Shape) -> None:
        """Prepare for one stage: features in, features out, voxels out per voxel in."""
        super().__init__()
        self.conv = CONV[settings.ndim](inputs, outputs, 1)
        self.enlarge = interpolation(settings, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels, then enlarge.

        The two commute, a 1x1 convolution being the same at every voxel; this order is the one
        that convolves the smaller image.
        """
        enlarged: Tensor = self.enlarge(self.conv(x))
        return enlarged


class ResidualStage(nn.Module):
    """Add a stage's input to what its convolutions make of it: (B, F, *S) -> (B, G, *S / stride).

    Where features or size change, the input goes through a 1x1 convolution and the norm. The last
    activation comes after the sum (He et al., Deep Residual Learning, CVPR 2016).
    """

    def __init__(
        self, settings: UNetSettings, stage: int, inputs: int, stride: Shape, path: Path
    ) -> None:
        """Prepare for one stage on one path."""
        super().__init__()
        *first, last = layers = unit_features(settings, stage, inputs, path)
        self.units = nn.Sequential(
            OrderedDict(
                (f"unit{i}", unit(settings, stage, pair, i, stride if i == 0 else None, path))
                for i, pair in enumerate(layers)
            )
        )
        end = self.units[len(first)]
        self.activation = nn.Sequential(
            OrderedDict((k, v) for k, v in end.named_children() if k in ("activation", "dropout"))
        )
        for name, _ in self.activation.named_children():
            delattr(end, name)
        outputs = last[1]
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or prod(stride) > 1:
            conv = CONV[settings.ndim](inputs, outputs, 1, stride, bias=has_bias(settings))  # type: ignore[arg-type]
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=norm_of(settings, outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """Give the activated sum."""
        activated: Tensor = self.activation(self.units(x) + self.shortcut(x))
        return activated


def convolutions(
    settings: UNetSettings, stage: int, inputs: int, stride: Shape, path: Path
) -> nn.Module:
    """Build the convolutions of one stage on one path."""
    if settings.blocks == "residual":
        return ResidualStage(settings, stage, inputs, stride, path)
    pairs = unit_features(settings, stage, inputs, path)
    # Layers are named, not numbered, so that a checkpoint's keys do not move with the options.
    return nn.Sequential(
        OrderedDict(
            (f"unit{i}", unit(settings, stage, pair, i, stride if i == 0 else None, path))
            for i, pair in enumerate(pairs)
        )
    )


def unit_features(
    settings: UNetSettings, stage: int, inputs: int, path: Path
) -> list[tuple[int, int]]:
    """Give features in and out of each convolution of one stage on one path."""
    features = [inputs, *[settings.features[stage]] * settings.convs_per_stage]
    if path == "up":
        features[-1] = features_above(settings, stage)
    return list(pairwise(features))


def features_above(settings: UNetSettings, stage: int) -> int:
    """Give the features that a stage of the way up hands on."""
    if settings.upsampling == "interpolate":
        return settings.features[max(stage - 1, 0)]
    return settings.features[stage]


def unit(
    settings: UNetSettings,
    stage: int,
    features: tuple[int, int],
    index: int,
    stride: Shape | None,
    path: Path,
) -> nn.Sequential:
    """Build convolution, norm, activation and dropout: (B, F, *S) -> (B, G, *S / stride)."""
    kernel = settings.kernels[stage]
    padding = tuple(side // 2 for side in kernel) if settings.padding == "same" else 0
    conv = CONV[settings.ndim](*features, kernel, stride or 1, padding, bias=has_bias(settings))  # type: ignore[arg-type]
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if settings.norm != "none":
        layers["norm"] = norm_of(settings, features[1])
    layers["activation"] = activation_of(settings)
    if share := dropout_share(settings, stage, index, path):
        layers["dropout"] = nn.Dropout(share)
    return nn.Sequential(layers)


def dropout_share(settings: UNetSettings, stage: int, index: int, path: Path) -> float:
    """Give the share of activations that one convolution of a stage loses in training."""
    match settings.dropout_place:
        case "every":
            here = True
        case "first":
            here = index == 0
        case "contracting":
            here = path == "down" and index == settings.convs_per_stage - 1
    return settings.dropouts[stage] if here else 0.0


def upsampling(settings: UNetSettings, stage: int) -> nn.Module:
    """Build the step from one stage up to the next."""
    inputs, outputs = settings.features[stage], settings.features[stage - 1]
    stride = settings.strides[stage]
    match settings.upsampling:
        case "transposed":
            return TRANSPOSED[settings.ndim](inputs, outputs, stride, stride)  # type: ignore[arg-type]
        case "linear":
            return LinearUpsampling(settings, inputs, outputs, stride)
        case "interpolate":
            return interpolation(settings, stride)


def interpolation(settings: UNetSettings, stride: Shape) -> nn.Upsample:
    """Build linear interpolation, as a layer so that the network's geometry can be measured."""
    mode = "trilinear" if settings.ndim == 3 else "bilinear"
    scale = tuple(float(step) for step in stride)
    # Aligned corners make the weights depend on the window's size.
    return nn.Upsample(scale_factor=scale, mode=mode, align_corners=settings.align_corners)


def has_bias(settings: UNetSettings) -> bool:
    """Say whether convolutions have a bias; a norm subtracts the mean, and any bias with it."""
    return settings.norm == "none" if settings.bias is None else settings.bias


def norm_of(settings: UNetSettings | DenseUNetSettings, features: int) -> nn.Module:
    """Build the norm of so many features."""
    match settings.norm:
        case "batch":
            return BATCH_NORM[settings.ndim](features)
        case "instance":
            return INSTANCE_NORM[settings.ndim](features, affine=True)
        case "group":
            return nn.GroupNorm(gcd(features, GROUPS), features)
        case "none":
            return nn.Identity()


def activation_of(settings: UNetSettings) -> nn.Module:
    """Build the non-linearity."""
    match settings.activation:
        case "relu":
            return nn.ReLU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(LEAK, inplace=True)
        case "elu":
            return nn.ELU(inplace=True)


def initialise(layer: nn.Module) -> None:
    """Draw weights as He et al., Delving Deep into Rectifiers, ICCV 2015."""
    if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
        # So many of a kernel's voxels feed each output.
        fan_in = layer.in_channels * max(1, prod(layer.kernel_size) // prod(layer.stride))
    elif isinstance(layer, nn.Conv2d | nn.Conv3d):
        fan_in = layer.in_channels * prod(layer.kernel_size)
    else:
        return
    nn.init.normal_(layer.weight, std=sqrt(2 / fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
