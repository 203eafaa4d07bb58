"""What a U-Net on an image classifier's backbone is made of."""

from typing import Literal, TypeAlias

from models.base import Count, NetworkSettings, Shape, Share, WindowNorm

Encoder: TypeAlias = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "efficientnet-b0",
    "efficientnet-b1",
    "efficientnet-b2",
    "efficientnet-b3",
    "efficientnet-b4",
    "efficientnet-b5",
    "efficientnet-b6",
    "efficientnet-b7",
]


class EncoderUNetSettings(NetworkSettings):
    """A backbone with a U-Net decoder, as MONAI's FlexibleUNet.

    ResNet and ResNeXt and DenseNet keep no statistics of the window. EfficientNet does: its
    squeeze-and-excitation weighs channels by their mean over all of it.
    """

    kind: Literal["encoder_unet"] = "encoder_unet"
    """Which network this is."""

    encoder: Encoder = "resnet34"
    """The backbone, five resolutions from 1/2 to 1/32."""

    encoder_weights: str | None = None
    """Local file of trained weights, a state dict; read when training starts, never downloaded."""

    decoder_features: tuple[Count, Count, Count, Count, Count] = (256, 128, 64, 32, 16)
    """Feature maps of the way up, coarsest first."""

    upsampling: Literal["nearest", "linear", "transposed"] = "nearest"
    """Of the way up: 1x1 convolution and interpolation, or transposed convolution."""

    norm: WindowNorm = "batch"
    """Normalisation of the way up; the backbone's is batch. Only batch gives seam-free tiles."""

    dropout: Share = 0.0
    """Share of activations of the way up set to zero in training."""

    @property
    def total_stride(self) -> Shape:
        """Thirty-two, of all backbones."""
        return (32,) * self.ndim

    @property
    def features(self) -> Shape:
        """Feature maps of the way up, finest first; the backbone has none at full size."""
        return self.decoder_features[::-1]
