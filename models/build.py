"""From a settings value to a network."""

from torch import nn

from models.settings import ModelSettings, UNetSettings
from models.unet import UNet


def build_model(settings: ModelSettings) -> nn.Module:
    """Build the network that the settings describe, with fresh weights on torch's default device.

    Args:
        settings: Which network, and its parameters.

    Returns:
        A network from images (B, C, *S) to logits (B, K, *S), in training mode.
    """
    match settings:
        case UNetSettings():
            return UNet(settings)
