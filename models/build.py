"""From a settings value to a network."""

from models.dense_unet import DenseUNet
from models.ensemble import Ensemble
from models.network import Network
from models.settings import (
    AttentionUNetSettings,
    DenseUNetSettings,
    DynUNetSettings,
    EncoderUNetSettings,
    EnsembleSettings,
    ModelSettings,
    SegResNetSettings,
    SwinUNETRSettings,
    UNetPlusPlusSettings,
    UNetSettings,
)
from models.thin_convolution import with_thin_convolutions
from models.unet import UNet


def build_model(settings: ModelSettings) -> Network:
    """Build the network that the settings describe, with fresh weights on torch's default device.

    Args:
        settings: Which network, and its parameters.

    Returns:
        A network from images (B, C, *S) to logits (B, K, *S), in training mode.
    """
    model = _built(settings)
    with_thin_convolutions(model)
    return model


def _built(settings: ModelSettings) -> Network:
    # MONAI takes seconds to import, and the default network does without.
    match settings:
        case UNetSettings():
            return UNet(settings)
        case DenseUNetSettings():
            return DenseUNet(settings)
        case UNetPlusPlusSettings():
            from models.variants import UNetPlusPlus

            return UNetPlusPlus(settings)
        case AttentionUNetSettings():
            from models.variants import AttentionUNet

            return AttentionUNet(settings)
        case SegResNetSettings():
            from models.variants import SegResNet

            return SegResNet(settings)
        case DynUNetSettings():
            from models.variants import DynUNet

            return DynUNet(settings)
        case SwinUNETRSettings():
            from models.variants import SwinUNETR

            return SwinUNETR(settings)
        case EncoderUNetSettings():
            from models.encoder_unet import EncoderUNet

            return EncoderUNet(settings)
        case EnsembleSettings():
            return Ensemble(settings, [_built(settings.member) for _ in range(settings.count)])
