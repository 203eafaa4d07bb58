"""Relatives of the U-Net, as MONAI builds them."""

from math import gcd
from typing import Any, ClassVar

import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import UpCat
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet
from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet
from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR
from torch import Tensor, nn

from models.base import WindowNorm
from models.network import Network
from models.unet_blocks import BATCH_NORM, GROUPS
from models.variant_settings import (
    AttentionUNetSettings,
    DynUNetSettings,
    SegResNetSettings,
    SwinUNETRSettings,
    UNetPlusPlusSettings,
)


class UNetPlusPlus(Network):
    """U-Net++ (Zhou et al., DLMIA 2018): (B, C, *S) -> (B, K, *S)."""

    settings: UNetPlusPlusSettings

    def __init__(self, settings: UNetPlusPlusSettings) -> None:
        """Build the network with fresh weights."""
        super().__init__(settings)
        self.network = BasicUNetPlusPlus(
            **_shape_of(settings),
            features=(*settings.features, settings.features[0]),
            norm=norm_name(settings.norm, *settings.features),
            # A norm subtracts the mean, and any bias with it.
            bias=False,
            dropout=settings.dropout,
            deep_supervision=settings.deep_supervision,
        )
        merge_in_one_piece(self.network)
        if not settings.deep_supervision:
            # Heads that nothing learns from stop distributed training.
            for node in ("0_1", "0_2", "0_3"):
                setattr(self.network, f"final_conv_{node}", nn.Identity())

    def compute(self, x: Tensor) -> Tensor | list[Tensor]:
        """Give logits; with deep supervision those of all four nodes, the deepest first."""
        logits: list[Tensor] = self.network(x)
        return logits[::-1] if self.training and self.settings.deep_supervision else logits[-1]


class AttentionUNet(Network):
    """Attention U-Net (Oktay et al., MIDL 2018): (B, C, *S) -> (B, K, *S)."""

    settings: AttentionUNetSettings

    def __init__(self, settings: AttentionUNetSettings) -> None:
        """Build the network with fresh weights."""
        super().__init__(settings)
        self.network = AttentionUnet(
            **_shape_of(settings),
            channels=settings.features,
            strides=(2,) * (len(settings.features) - 1),
            dropout=settings.dropout,
        )
        if settings.norm == "batch":
            _merge_with_batch_norm(self.network, settings.ndim)

    def compute(self, x: Tensor) -> Tensor:
        """Give logits for an input that is known to fit."""
        logits: Tensor = self.network(x)
        return logits


class SegResNet(Network):
    """SegResNet (Myronenko, BrainLes 2018): (B, C, *S) -> (B, K, *S)."""

    settings: SegResNetSettings

    def __init__(self, settings: SegResNetSettings) -> None:
        """Build the network with fresh weights."""
        super().__init__(settings)
        self.network = MonaiSegResNet(
            **_shape_of(settings),
            init_filters=settings.first_features,
            blocks_down=settings.blocks_down,
            blocks_up=settings.blocks_up,
            norm=norm_name(settings.norm, settings.first_features),
            dropout_prob=settings.dropout or None,
        )

    def compute(self, x: Tensor) -> Tensor:
        """Give logits for an input that is known to fit."""
        logits: Tensor = self.network(x)
        return logits


class DynUNet(Network):
    """MONAI's nnU-Net (Isensee et al., Nature Methods 2021): (B, C, *S) -> (B, K, *S)."""

    settings: DynUNetSettings

    def __init__(self, settings: DynUNetSettings) -> None:
        """Build the network with fresh weights."""
        super().__init__(settings)
        self.network = MonaiDynUNet(
            **_shape_of(settings),
            filters=settings.features,
            strides=settings.strides,
            kernel_size=settings.kernels,
            upsample_kernel_size=settings.strides[1:],
            norm_name=norm_name(settings.norm, *settings.features),
            dropout=settings.dropout or None,
            res_block=settings.residual,
            deep_supervision=settings.deep_supervision > 0,
            deep_supr_num=max(1, settings.deep_supervision),
        )
        self._forget()

    def compute(self, x: Tensor) -> Tensor | list[Tensor]:
        """Give logits; with deep supervision those of the coarser stages too, enlarged."""
        logits: Tensor = self.network(x)
        if not (self.training and self.settings.deep_supervision):
            return logits
        self._forget()
        return list(logits.unbind(1))

    def _forget(self) -> None:
        # MONAI keeps the last coarse logits, and with them the graph of the step before.
        self.network.heads[:] = [None] * len(self.network.heads)


class SwinUNETR(Network):
    """Swin UNETR (Hatamizadeh et al., BrainLes 2021): (B, C, *S) -> (B, K, *S)."""

    settings: SwinUNETRSettings
    attends: ClassVar[bool] = True

    def __init__(self, settings: SwinUNETRSettings) -> None:
        """Build the network with fresh weights."""
        super().__init__(settings)
        self.network = Swin(
            **_shape_of(settings),
            feature_size=settings.first_features,
            depths=settings.depths,
            num_heads=settings.heads,
            window_size=settings.window,
            drop_rate=settings.dropout,
        )

    def compute(self, x: Tensor) -> Tensor:
        """Give logits for an input that is known to fit."""
        logits: Tensor = self.network(x)
        return logits


class Swin(MonaiSwinUNETR):  # type: ignore[misc]
    """MONAI's network, without its check of the input, at which ``torch.compile`` gives up."""

    def _check_input_size(self, spatial_shape: Any) -> None:
        """Leave it be: :class:`Network` has said already which sizes fit."""


class Merge(UpCat):  # type: ignore[misc]
    """MONAI's step up, without the question to TorchScript at which ``torch.compile`` gives up."""

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Enlarge, concatenate and convolve: (B, F, *S), (B, G, *S * 2) -> (B, H, *S * 2)."""
        # An input that fits needs none of the padding that MONAI has here.
        x = self.upsample(x)
        merged: Tensor = self.convs(x if skip is None else torch.cat((skip, x), dim=1))
        return merged


def merge_in_one_piece(model: nn.Module) -> None:
    """Make every step up of one of MONAI's networks a :class:`Merge`, in place."""
    for layer in model.modules():
        if type(layer) is UpCat:
            layer.__class__ = Merge


def norm_name(norm: WindowNorm, *features: int) -> tuple[str, dict[str, Any]]:
    """Give a norm as MONAI names it, with as many groups as all these features divide into."""
    match norm:
        case "batch":
            return "batch", {}
        case "instance":
            return "instance", {"affine": True}
        case "group":
            return "group", {"num_groups": gcd(GROUPS, *features)}


def _shape_of(settings: Any) -> dict[str, int]:
    return {
        "spatial_dims": settings.ndim,
        "in_channels": settings.in_channels,
        "out_channels": settings.out_channels,
    }


def _merge_with_batch_norm(layer: nn.Module, ndim: int) -> None:
    """Put a batch norm where MONAI merges a gated skip with an instance norm of the same size."""
    for name, child in layer.named_children():
        if isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d):
            setattr(layer, name, BATCH_NORM[ndim](child.num_features))
        else:
            _merge_with_batch_norm(child, ndim)
