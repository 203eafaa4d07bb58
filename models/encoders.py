"""Backbones that MONAI's FlexibleUNet lacks, or has in a form that published weights do not fit.

MONAI's own ResNet encoders of 18 and 34 layers shorten the shortcut by a pool whose gradient is
cut off, and ImageNet weights have a convolution there; these have it too.
"""

from typing import Any, ClassVar

import torch
from monai.networks.blocks.encoder import BaseEncoder
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from torch import Tensor, nn

from models.unet_blocks import BATCH_NORM, CONV


class Backbone(BaseEncoder):  # type: ignore[misc]
    """What MONAI's registry asks of an encoder, told from the table of its names."""

    PARAMETERS: ClassVar[dict[str, Any]]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Give the names in MONAI's registry, apart from MONAI's own."""
        return [registered(name) for name in cls.PARAMETERS]

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """Give what the constructor takes, for each name."""
        return [_parameters(name) for name in cls.PARAMETERS]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Five, for each name."""
        return [5] * len(cls.PARAMETERS)


class ResNetEncoder(ResNet, Backbone):  # type: ignore[misc]
    """ResNet (He et al., CVPR 2016) and ResNeXt (Xie et al., CVPR 2017), laid out as torchvision.

    Gives five feature maps, at 1/2 to 1/32.
    """

    # Blocks of the four stages, and for ResNeXt groups and features of each at the first stage.
    PARAMETERS: ClassVar[dict[str, tuple[tuple[int, int, int, int], int, int]]] = {
        "resnet18": ((2, 2, 2, 2), 1, 64),
        "resnet34": ((3, 4, 6, 3), 1, 64),
        "resnet50": ((3, 4, 6, 3), 1, 64),
        "resnet101": ((3, 4, 23, 3), 1, 64),
        "resnet152": ((3, 8, 36, 3), 1, 64),
        "resnext50_32x4d": ((3, 4, 6, 3), 32, 4),
        "resnext101_32x8d": ((3, 4, 23, 3), 32, 8),
    }

    def __init__(
        self, model_name: str, spatial_dims: int, in_channels: int, pretrained: bool = False
    ) -> None:
        """Build one of :attr:`PARAMETERS`; ``pretrained`` is there for the registry, and false."""
        layers, groups, width = self.PARAMETERS[model_name]
        basic = model_name in ("resnet18", "resnet34")
        super().__init__(
            block=ResNetBlock if basic else ResNetBottleneck,
            layers=list(layers),
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            shortcut_type="B",
            bias_downsample=False,
            feed_forward=False,
        )
        # Nothing of the classifier is used: left in, it would read as a layer that sees all.
        del self.avgpool
        if groups > 1:
            for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
                for block in stage:
                    _widen(block, spatial_dims, groups, width)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give feature maps, finest first."""
        x = self.act(self.bn1(self.conv1(x)))
        features = [x]
        x = self.maxpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Give features of the five maps, for each name."""
        basic, bottleneck = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)
        return [basic if n in ("resnet18", "resnet34") else bottleneck for n in cls.PARAMETERS]


class DenseNetEncoder(DenseNet, Backbone):  # type: ignore[misc]
    """DenseNet (Huang et al., CVPR 2017). Gives five feature maps, at 1/2 to 1/32."""

    # Layers of the four blocks, features of the first convolution, growth.
    PARAMETERS: ClassVar[dict[str, tuple[tuple[int, int, int, int], int, int]]] = {
        "densenet121": ((6, 12, 24, 16), 64, 32),
        "densenet161": ((6, 12, 36, 24), 96, 48),
        "densenet169": ((6, 12, 32, 32), 64, 32),
        "densenet201": ((6, 12, 48, 32), 64, 32),
    }

    def __init__(
        self, model_name: str, spatial_dims: int, in_channels: int, pretrained: bool = False
    ) -> None:
        """Build one of :attr:`PARAMETERS`; ``pretrained`` is there for the registry, and false."""
        layers, first, growth = self.PARAMETERS[model_name]
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=1,
            init_features=first,
            growth_rate=growth,
            block_config=layers,
        )
        # Nothing of the classifier is used: left in, it would read as a layer that sees all.
        del self.class_layers

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give feature maps, finest first: before each pool, and the last."""
        features: list[Tensor] = []
        for name, layer in self.features.named_children():
            if name == "pool0":
                features.append(x)
            if name.startswith("transition"):
                x = layer.relu(layer.norm(x))
                features.append(x)
                x = layer.pool(layer.conv(x))
            else:
                x = layer(x)
        return [*features, torch.relu(x)]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Give features of the five maps, for each name."""
        return [cls._channels(*parameters) for parameters in cls.PARAMETERS.values()]

    @staticmethod
    def _channels(layers: tuple[int, ...], first: int, growth: int) -> tuple[int, ...]:
        channels, inputs = [first], first
        for count in layers:
            channels.append(inputs + count * growth)
            inputs = channels[-1] // 2
        return tuple(channels)


def registered(encoder: str) -> str:
    """Give an encoder's name in MONAI's registry; EfficientNet is MONAI's own."""
    return encoder if encoder.startswith("efficientnet") else f"segflow-{encoder}"


def _parameters(name: str) -> dict[str, Any]:
    return {"model_name": name, "spatial_dims": 2, "in_channels": 3, "pretrained": False}


def _widen(block: Any, ndim: int, groups: int, width: int) -> None:
    """Make a ResNet bottleneck one of ResNeXt: a wider middle convolution, in groups."""
    inputs, outputs = block.conv1.in_channels, block.conv3.out_channels
    middle = outputs // ResNetBottleneck.expansion * width // 64 * groups
    conv, norm = CONV[ndim], BATCH_NORM[ndim]
    block.conv1, block.bn1 = conv(inputs, middle, 1, bias=False), norm(middle)
    block.conv2 = conv(middle, middle, 3, block.stride, 1, groups=groups, bias=False)
    block.bn2 = norm(middle)
    block.conv3 = conv(middle, outputs, 1, bias=False)
    for layer in (block.conv1, block.conv2, block.conv3):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


FLEXUNET_BACKBONE.register_class(ResNetEncoder)
FLEXUNET_BACKBONE.register_class(DenseNetEncoder)
