"""Builders of small networks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models import UNet, UNetSettings

BuildSettings = Callable[..., UNetSettings]
BuildUNet = Callable[..., UNet]


@pytest.fixture
def build_settings() -> BuildSettings:
    """Give a function that makes settings of a three-stage network, any field changed at will."""

    def build(ndim: int = 2, **changes: Any) -> UNetSettings:
        fields: dict[str, Any] = {
            "ndim": ndim,
            "in_channels": 1,
            "out_channels": 3,
            "features": (3, 4, 5),
            "strides": ((1,) * ndim, (2,) * ndim, (2,) * ndim),
            "kernels": ((3,) * ndim,) * 3,
        }
        return UNetSettings(**(fields | changes))

    return build


@pytest.fixture
def build_unet(build_settings: BuildSettings) -> BuildUNet:
    """Give a function that makes a network with random weights and random running statistics."""

    def build(ndim: int = 2, **changes: Any) -> UNet:
        torch.manual_seed(0)
        return randomised(UNet(build_settings(ndim, **changes)))

    return build


def randomised(model: torch.nn.Module) -> Any:
    """Fill running statistics and affine weights of norms as training would; give the model."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            for values in (layer.running_var, layer.weight.data):
                values.uniform_(0.5, 2)
            for values in (layer.running_mean, layer.bias.data):
                values.normal_()
    return model


@pytest.fixture
def randomise() -> Callable[[torch.nn.Module], Any]:
    """Give :func:`randomised`, for networks that are not ours."""
    return randomised
