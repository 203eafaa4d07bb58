"""The U-Net, in two and three dimensions, from a settings value."""

from collections import OrderedDict
from math import gcd, prod, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.settings import UNetSettings
from models.sizes import Shape, misfit, output_shape

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


class UNet(nn.Module):
    """Give logits for an image: (B, C, *S) -> (B, K, *S).

    Contracting path, expansive path, skips concatenated between them, 1x1 head. With
    ``padding="valid"`` the output is smaller than the input and lies in its middle.

    Sources:
        Ronneberger, Fischer, Brox: U-Net, MICCAI 2015 (valid padding, skips cropped).
        Çiçek et al.: 3D U-Net, MICCAI 2016. Isensee et al.: nnU-Net, Nature Methods 2021
        (strided convolutions, anisotropic kernels and strides).
    """

    def __init__(self, settings: UNetSettings) -> None:
        """Build the network with He-initialised weights, drawn from torch's global generator."""
        super().__init__()
        self.settings = settings
        stages = range(len(settings.features))
        self.encoders = nn.ModuleList(_encoder(settings, stage) for stage in stages)
        self.upsamplings = nn.ModuleList(_upsampling(settings, stage) for stage in stages[:0:-1])
        self.decoders = nn.ModuleList(_decoder(settings, stage) for stage in stages[-2::-1])
        self.head = CONV[settings.ndim](settings.features[0], settings.out_channels, 1)
        self.apply(_initialise)

    @property
    def total_stride(self) -> Shape:
        """Input voxels per voxel of the bottom stage, per axis."""
        return self.settings.total_stride

    def forward(self, x: Tensor) -> Tensor:
        """Give logits.

        Args:
            x: Images, (B, C, Z, Y, X) or (B, C, Y, X).

        Returns:
            Logits, (B, K, *S); S as the input's, or smaller with ``padding="valid"``.

        Raises:
            ValueError: The input's axes, channels or size do not fit; the message says what fits.
        """
        self._check(x)
        skips: list[Tensor] = []
        for encoder in self.encoders:
            x = encoder(x)  # (B, F[i-1], *S) -> (B, F[i], *S / stride)
            skips.append(x)
        skips.pop()
        for upsampling, decoder in zip(self.upsamplings, self.decoders, strict=True):
            x = upsampling(x)  # (B, F[i+1], *S) -> (B, F[i], *S * stride)
            x = decoder(torch.cat((self._cropped(skips.pop(), x), x), dim=1))
        logits: Tensor = self.head(x)  # (B, F[0], *S) -> (B, K, *S)
        return logits

    def _check(self, x: Tensor) -> None:
        settings = self.settings
        if x.ndim != settings.ndim + 2 or x.shape[1] != settings.in_channels:
            axes = "Z, Y, X" if settings.ndim == 3 else "Y, X"
            raise ValueError(
                f"input has shape {tuple(x.shape)}, expected (B, {settings.in_channels}, {axes}): "
                f"give one batch axis, then channels, then {settings.ndim} spatial axes"
            )
        if output_shape(settings, x.shape[2:]) is None:
            raise ValueError(misfit(settings, x.shape[2:]))

    def _cropped(self, skip: Tensor, like: Tensor) -> Tensor:
        if self.settings.padding == "valid":
            for axis in range(2, skip.ndim):
                size = like.shape[axis]
                skip = skip.narrow(axis, (skip.shape[axis] - size) // 2, size)
        return skip


class LinearUpsampling(nn.Module):
    """Enlarge by linear interpolation: (B, F, *S) -> (B, G, *S * stride)."""

    def __init__(self, settings: UNetSettings, inputs: int, outputs: int, stride: Shape) -> None:
        """Prepare for one stage: features in, features out, voxels out per voxel in."""
        super().__init__()
        self.conv = CONV[settings.ndim](inputs, outputs, 1)
        self.scale = [float(step) for step in stride]
        self.mode = "trilinear" if settings.ndim == 3 else "bilinear"

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels, then enlarge.

        The two commute, a 1x1 convolution being the same at every voxel; this order is the one
        that convolves the smaller image.
        """
        x = self.conv(x)
        # Corners unaligned: aligned ones make the weights depend on the window's size.
        return F.interpolate(x, scale_factor=self.scale, mode=self.mode, align_corners=False)


def _encoder(settings: UNetSettings, stage: int) -> nn.Sequential:
    stride = settings.strides[stage]
    inputs = settings.features[stage - 1] if stage else settings.in_channels
    if settings.downsampling == "strided" or prod(stride) == 1:
        return _convolutions(settings, stage, inputs, stride)
    convs = _convolutions(settings, stage, inputs, (1,) * settings.ndim)
    return nn.Sequential(
        OrderedDict(pool=MAX_POOL[settings.ndim](stride), **dict(convs.named_children()))
    )


def _upsampling(settings: UNetSettings, stage: int) -> nn.Module:
    inputs, outputs = settings.features[stage], settings.features[stage - 1]
    stride = settings.strides[stage]
    if settings.upsampling == "linear":
        return LinearUpsampling(settings, inputs, outputs, stride)
    return TRANSPOSED[settings.ndim](inputs, outputs, stride, stride)  # type: ignore[arg-type]


def _decoder(settings: UNetSettings, stage: int) -> nn.Sequential:
    inputs = 2 * settings.features[stage]  # skip and way up
    return _convolutions(settings, stage, inputs, (1,) * settings.ndim)


def _convolutions(settings: UNetSettings, stage: int, inputs: int, stride: Shape) -> nn.Sequential:
    features, kernel = settings.features[stage], settings.kernels[stage]
    later = [
        _unit(settings, features, features, kernel, (1,) * settings.ndim)
        for _ in range(settings.convs_per_stage - 1)
    ]
    units = [_unit(settings, inputs, features, kernel, stride), *later]
    # Layers are named, not numbered, so that a checkpoint's keys do not move with the options.
    return nn.Sequential(OrderedDict((f"unit{i}", unit) for i, unit in enumerate(units)))


def _unit(
    settings: UNetSettings, inputs: int, outputs: int, kernel: Shape, stride: Shape
) -> nn.Sequential:
    padding = tuple(side // 2 for side in kernel) if settings.padding == "same" else 0
    bias = settings.norm == "none"  # a norm subtracts the mean, and any bias with it
    conv = CONV[settings.ndim](inputs, outputs, kernel, stride, padding, bias=bias)  # type: ignore[arg-type]
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if settings.norm != "none":
        layers["norm"] = _norm(settings, outputs)
    layers["activation"] = _activation(settings)
    if settings.dropout:
        layers["dropout"] = nn.Dropout(settings.dropout)
    return nn.Sequential(layers)


def _norm(settings: UNetSettings, features: int) -> nn.Module:
    match settings.norm:
        case "batch":
            return BATCH_NORM[settings.ndim](features)
        case "instance":
            return INSTANCE_NORM[settings.ndim](features, affine=True)
        case "group":
            return nn.GroupNorm(gcd(features, GROUPS), features)
        case "none":
            return nn.Identity()


def _activation(settings: UNetSettings) -> nn.Module:
    match settings.activation:
        case "relu":
            return nn.ReLU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(LEAK, inplace=True)


def _initialise(layer: nn.Module) -> None:
    """Draw weights as He et al., Delving Deep into Rectifiers, ICCV 2015."""
    if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
        fan_in = layer.in_channels  # with kernel = stride one voxel feeds each output
    elif isinstance(layer, nn.Conv2d | nn.Conv3d):
        fan_in = layer.in_channels * prod(layer.kernel_size)
    else:
        return
    nn.init.normal_(layer.weight, std=sqrt(2 / fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
