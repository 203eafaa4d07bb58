"""A U-Net of densely connected blocks."""

import torch
from torch import Tensor, nn

from models.network import Network
from models.unet_blocks import (
    CONV,
    MAX_POOL,
    TRANSPOSED,
    initialise,
    norm_of,
)
from models.variant_settings import DenseUNetSettings


class DenseUNet(Network):
    """FC-DenseNet: (B, C, *S) -> (B, K, *S).

    On the way down a block passes on its input and all its layers' features; on the way up, lest
    features grow without end, only what the layers of the block below made.

    Source:
        Jégou et al.: The One Hundred Layers Tiramisu, CVPR Workshops 2017.
    """

    settings: DenseUNetSettings

    def __init__(self, settings: DenseUNetSettings) -> None:
        """Build the network with He-initialised weights, drawn from torch's global generator."""
        super().__init__(settings)
        ndim, growth = settings.ndim, settings.growth
        *down, bottom = settings.layers
        skips = settings.features[:-1]
        self.first = CONV[ndim](settings.in_channels, settings.first_features, 3, padding=1)
        inputs = [settings.first_features, *skips]
        self.encoders = nn.ModuleList(
            DenseBlock(settings, features, count)
            for features, count in zip(inputs, settings.layers, strict=True)
        )
        self.downs = nn.ModuleList(_transition_down(settings, features) for features in skips)
        below = [bottom, *down[::-1]]
        self.ups = nn.ModuleList(
            # Kernel 3 with stride 2, padded so that the size doubles.
            TRANSPOSED[ndim](count * growth, count * growth, 3, 2, 1, 1)
            for count in below[:-1]
        )
        self.decoders = nn.ModuleList(
            DenseBlock(settings, skip + made * growth, count)
            for skip, made, count in zip(skips[::-1], below, down[::-1], strict=False)
        )
        last = skips[0] + (below[-2] + down[0]) * growth
        self.head = CONV[ndim](last, settings.out_channels, 1)
        self.apply(initialise)

    def compute(self, x: Tensor) -> Tensor:
        """Give logits for an input that is known to fit."""
        x = self.first(x)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            skips.append(torch.cat((x, encoder(x)), dim=1))
            x = down(skips[-1])  # (B, F, *S) -> (B, F, *S / 2)
        made = self.encoders[-1](x)  # only what the block made goes up
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = torch.cat((skips.pop(), up(made)), dim=1)  # (B, G, *S) -> (B, F + G, *S * 2)
            made = decoder(x)
        logits: Tensor = self.head(torch.cat((x, made), dim=1))
        return logits


class DenseBlock(nn.Module):
    """Layers that each see all before them: (B, F, *S) -> (B, layers * growth, *S)."""

    def __init__(self, settings: DenseUNetSettings, inputs: int, layers: int) -> None:
        """Prepare for so many features and layers."""
        super().__init__()
        growth = settings.growth
        self.layers = nn.ModuleList(
            nn.Sequential(
                *_activated(settings, inputs + i * growth),
                CONV[settings.ndim](inputs + i * growth, growth, 3, padding=1),
                nn.Dropout(settings.dropout),
            )
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give the new features alone."""
        made: list[Tensor] = []
        for layer in self.layers:
            made.append(layer(torch.cat((x, *made), dim=1)))
        return torch.cat(made, dim=1)


def _transition_down(settings: DenseUNetSettings, features: int) -> nn.Sequential:
    return nn.Sequential(
        *_activated(settings, features),
        CONV[settings.ndim](features, features, 1),
        nn.Dropout(settings.dropout),
        MAX_POOL[settings.ndim](2),
    )


def _activated(settings: DenseUNetSettings, features: int) -> tuple[nn.Module, nn.Module]:
    return norm_of(settings, features), nn.ReLU(inplace=True)
