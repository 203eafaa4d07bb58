"""The U-Net, in two and three dimensions, from a settings value."""

from collections import OrderedDict
from math import prod

import torch
from torch import Tensor, nn

from models.network import Network, cut
from models.unet_blocks import (
    CONV,
    MAX_POOL,
    convolutions,
    features_above,
    initialise,
    upsampling,
)
from models.unet_settings import UNetSettings
from models.way_up import Box, is_local, needs


class UNet(Network):
    """Give logits for an image: (B, C, *S) -> (B, K, *S).

    Contracting path, expansive path, skips concatenated between them, 1x1 head. With
    ``padding="valid"`` the output is smaller than the input and lies in its middle.

    Sources:
        Ronneberger, Fischer, Brox: U-Net, MICCAI 2015 (valid padding, skips cropped).
        Çiçek et al.: 3D U-Net, MICCAI 2016. Isensee et al.: nnU-Net, Nature Methods 2021
        (strided convolutions, anisotropic kernels and strides, deep supervision).
    """

    settings: UNetSettings

    def __init__(self, settings: UNetSettings) -> None:
        """Build the network with He-initialised weights, drawn from torch's global generator."""
        super().__init__(settings)
        stages = range(len(settings.features))
        self.encoders = nn.ModuleList(_encoder(settings, stage) for stage in stages)
        self.upsamplings = nn.ModuleList(upsampling(settings, stage) for stage in stages[:0:-1])
        self.decoders = nn.ModuleList(_decoder(settings, stage) for stage in stages[-2::-1])
        self.head = _head(settings, 0)
        coarser = range(1, settings.deep_supervision + 1)
        self.coarse_heads = nn.ModuleList(_head(settings, stage) for stage in coarser)
        self.apply(initialise)

    def compute(self, x: Tensor) -> Tensor | list[Tensor]:
        """Give logits for an input that is known to fit."""
        skips: list[Tensor] = []
        for encoder in self.encoders:
            x = encoder(x)  # (B, F[i-1], *S) -> (B, F[i], *S / stride)
            skips.append(x)
        ups = [skips.pop()]
        for up, decoder in zip(self.upsamplings, self.decoders, strict=True):
            x = up(x)  # (B, F[i+1], *S) -> (B, F[i], *S * stride)
            x = decoder(torch.cat((self._cropped(skips.pop(), x), x), dim=1))
            ups.insert(0, x)
        logits: Tensor = self.head(x)  # (B, F[0], *S) -> (B, K, *S)
        if not (self.training and self.coarse_heads):
            return logits
        coarse = zip(self.coarse_heads, ups[1:], strict=False)
        return [logits, *(head(features) for head, features in coarse)]

    def inside(self, x: Tensor, box: Box) -> Tensor:
        """Give a box of the logits; the way up is computed only as far as the box needs it."""
        if not is_local(self.settings):
            return super().inside(x, box)
        self._check(x)
        stages = needs(self.settings, x.shape[2:], box)
        skips: list[Tensor] = []
        for encoder, stage in zip(self.encoders, [*stages, None], strict=True):
            x = encoder(x)
            if stage is not None:
                skips.append(cut(x, stage.given))
        place = tuple((0, n) for n in x.shape[2:])
        for up, decoder, stage in zip(self.upsamplings, self.decoders, stages[::-1], strict=True):
            x = cut(up(cut(x, stage.below, place)), stage.given, stage.enlarged)
            x = decoder(torch.cat((skips.pop(), x), dim=1))
            place = stage.given
        logits: Tensor = self.head(cut(x, box, place))
        return logits

    def _cropped(self, skip: Tensor, like: Tensor) -> Tensor:
        if self.settings.padding == "valid":
            for axis in range(2, skip.ndim):
                size = like.shape[axis]
                skip = skip.narrow(axis, (skip.shape[axis] - size) // 2, size)
        return skip


def _encoder(settings: UNetSettings, stage: int) -> nn.Module:
    stride = settings.strides[stage]
    inputs = settings.features[stage - 1] if stage else settings.in_channels
    if settings.downsampling == "strided" or prod(stride) == 1:
        return convolutions(settings, stage, inputs, stride, "down")
    convs = convolutions(settings, stage, inputs, (1,) * settings.ndim, "down")
    pool = MAX_POOL[settings.ndim](stride)
    if settings.blocks == "residual":
        return nn.Sequential(OrderedDict(pool=pool, residual=convs))
    return nn.Sequential(OrderedDict(pool=pool, **dict(convs.named_children())))


def _decoder(settings: UNetSettings, stage: int) -> nn.Module:
    below = settings.features[stage]  # features the way up arrives with
    if settings.upsampling == "interpolate" and stage == len(settings.features) - 2:
        below = settings.features[-1]
    inputs = settings.features[stage] + below
    return convolutions(settings, stage, inputs, (1,) * settings.ndim, "up")


def _head(settings: UNetSettings, stage: int) -> nn.Module:
    bottom = stage == len(settings.features) - 1  # of a network of one stage
    features = settings.features[stage] if bottom else features_above(settings, stage)
    return CONV[settings.ndim](features, settings.out_channels, 1)
