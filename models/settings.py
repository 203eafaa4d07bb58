"""What a network is made of, as values: frozen, checked, and written into every run folder."""

from typing import Annotated, TypeAlias

from pydantic import Field

from models.base import NetworkSettings
from models.encoder_settings import EncoderUNetSettings
from models.unet_settings import UNetSettings
from models.variant_settings import (
    AttentionUNetSettings,
    DenseUNetSettings,
    DynUNetSettings,
    SegResNetSettings,
    SwinUNETRSettings,
    UNetPlusPlusSettings,
)

ModelSettings: TypeAlias = Annotated[
    UNetSettings
    | UNetPlusPlusSettings
    | AttentionUNetSettings
    | DenseUNetSettings
    | SegResNetSettings
    | DynUNetSettings
    | SwinUNETRSettings
    | EncoderUNetSettings,
    Field(discriminator="kind"),
]

__all__ = [
    "AttentionUNetSettings",
    "DenseUNetSettings",
    "DynUNetSettings",
    "EncoderUNetSettings",
    "ModelSettings",
    "NetworkSettings",
    "SegResNetSettings",
    "SwinUNETRSettings",
    "UNetPlusPlusSettings",
    "UNetSettings",
]
