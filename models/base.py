"""What every network's settings have in common: axes, channels, and the sizes that fit."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Shape: TypeAlias = tuple[int, ...]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Features = Annotated[tuple[Count, ...], Field(min_length=1)]
PerAxis = Annotated[tuple[Count, ...], Field(min_length=2, max_length=3)]
WindowNorm = Literal["batch", "instance", "group"]


class NetworkSettings(BaseModel, ABC):
    """What any network is told, and what it can tell of itself without being built."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ndim: Literal[2, 3]
    """Spatial axes: 2 for (Y, X), 3 for (Z, Y, X)."""

    in_channels: Count
    """Channels of the input, C."""

    out_channels: Count
    """Classes of the output, K, background included; or values per voxel, of a regression."""

    @property
    @abstractmethod
    def total_stride(self) -> Shape:
        """Input voxels per voxel of the coarsest feature map, per axis."""

    @property
    def least_bottom(self) -> int:
        """Voxels the coarsest feature map needs, all axes together.

        Two, where a norm takes the spread of one window: one voxel has none.
        """
        return 1

    def output_size(self, axis: int, size: int) -> int | None:
        """Give the output's size along one axis.

        Args:
            axis: Spatial axis, from 0.
            size: Input voxels along it.

        Returns:
            Output voxels along it; None where the input does not divide evenly at every stage, so
            that the way up would not meet the way down.
        """
        return None if self.bottom_size(axis, size) is None else size

    def bottom_size(self, axis: int, size: int) -> int | None:
        """Give the coarsest feature map's size along one axis; None where the input does not fit.

        Args:
            axis: Spatial axis, from 0.
            size: Input voxels along it.
        """
        stride = self.total_stride[axis]
        return size // stride if size > 0 and size % stride == 0 else None
