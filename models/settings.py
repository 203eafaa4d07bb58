"""What a network is made of, as values: frozen, checked, and written into every run folder."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from models.averages import Average
from models.base import Count, NetworkSettings, Shape
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

OneNetwork: TypeAlias = Annotated[
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


class EnsembleSettings(NetworkSettings):
    """Networks of the same settings and other weights, asked together."""

    kind: Literal["ensemble"] = "ensemble"
    """Which network this is."""
    member: OneNetwork
    """Each of them."""
    count: Count
    """How many."""
    average: Average = "linear"
    """What is averaged: probabilities of classes, of regions, or the outputs themselves."""

    @classmethod
    def of(cls, member: OneNetwork, count: int, average: Average = "linear") -> Self:
        """So many networks of these settings."""
        ends = {name: getattr(member, name) for name in ("ndim", "in_channels", "out_channels")}
        return cls(**ends, member=member, count=count, average=average)

    @model_validator(mode="after")
    def _same_ends(self) -> Self:
        for name in ("ndim", "in_channels", "out_channels"):
            if getattr(self, name) != getattr(self.member, name):
                raise ValueError(f"{name} is {getattr(self, name)}, but the members' is another")
        return self

    @property
    def total_stride(self) -> Shape:
        """As a member's."""
        return self.member.total_stride

    @property
    def least_bottom(self) -> int:
        """As a member's."""
        return self.member.least_bottom

    def output_size(self, axis: int, size: int) -> int | None:
        """As a member's."""
        return self.member.output_size(axis, size)

    def bottom_size(self, axis: int, size: int) -> int | None:
        """As a member's."""
        return self.member.bottom_size(axis, size)


ModelSettings: TypeAlias = Annotated[OneNetwork | EnsembleSettings, Field(discriminator="kind")]

__all__ = [
    "AttentionUNetSettings",
    "DenseUNetSettings",
    "DynUNetSettings",
    "EncoderUNetSettings",
    "EnsembleSettings",
    "ModelSettings",
    "NetworkSettings",
    "OneNetwork",
    "SegResNetSettings",
    "SwinUNETRSettings",
    "UNetPlusPlusSettings",
    "UNetSettings",
]
