"""A U-Net on an image classifier's backbone."""

from monai.networks.nets.flexible_unet import FlexibleUNet
from torch import Tensor, nn

from models.encoder_settings import EncoderUNetSettings
from models.encoders import registered
from models.network import Network
from models.unet_blocks import initialise
from models.variants import merge_in_one_piece, norm_name

UNUSED = ("_conv_head", "_conv_head_padding", "_bn1", "_avg_pooling", "_dropout", "_fc")


class EncoderUNet(Network):
    """MONAI's FlexibleUNet: (B, C, *S) -> (B, K, *S).

    The backbone gives features at 1/2 to 1/32; the decoder is a U-Net's.
    """

    settings: EncoderUNetSettings

    def __init__(self, settings: EncoderUNetSettings) -> None:
        """Build the network with fresh weights; trained ones are loaded by ``load_encoder``."""
        super().__init__(settings)
        transposed = settings.upsampling == "transposed"
        self.network = FlexibleUNet(
            in_channels=settings.in_channels,
            out_channels=settings.out_channels,
            backbone=registered(settings.encoder),
            decoder_channels=settings.decoder_features,
            spatial_dims=settings.ndim,
            norm=norm_name(settings.norm, *settings.decoder_features),
            dropout=settings.dropout,
            upsample="deconv" if transposed else "nontrainable",
            interp_mode="nearest" if transposed else settings.upsampling,
            # Sizes that need it are refused.
            is_pad=False,
        )
        merge_in_one_piece(self.network)
        for name in UNUSED:
            # Layers of EfficientNet's classifier, which nothing learns from, stop distributed
            # training.
            if hasattr(self.network.encoder, name):
                delattr(self.network.encoder, name)
        self.network.decoder.apply(initialise)
        self.network.segmentation_head.apply(initialise)

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        encoder: nn.Module = self.network.encoder
        return encoder

    def compute(self, x: Tensor) -> Tensor:
        """Give logits for an input that is known to fit."""
        logits: Tensor = self.network(x)
        return logits
