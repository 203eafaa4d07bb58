"""What a U-Net is made of."""

from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.base import Count, Features, NetworkSettings, PerAxis, Shape, Share


class UNetSettings(NetworkSettings):
    """A U-Net in two or three dimensions, as Ronneberger et al. 2015 and Çiçek et al. 2016.

    A stage is one resolution; the first stage is the input's. Every stage but the last, which is
    the bottom, exists twice: on the contracting path and, with the same features and kernels, on
    the expansive path.

    Raises:
        ValidationError: Fields disagree; the message says which and what to change.
    """

    kind: Literal["unet"] = "unet"
    """Which network this is."""

    features: Features
    """Feature maps of each stage, top first."""

    strides: Annotated[tuple[PerAxis, ...], Field(min_length=1)]
    """Downsampling before each stage, per axis; all ones for the first, which keeps the input's."""

    kernels: Annotated[tuple[PerAxis, ...], Field(min_length=1)]
    """Kernel size of each stage's convolutions in voxels, per axis; odd."""

    convs_per_stage: Count = 2
    """Convolutions in a stage, on either path."""

    blocks: Literal["plain", "residual"] = "plain"
    """Whether a stage's input is added to what its convolutions make of it (He et al. 2016)."""

    norm: Literal["batch", "instance", "group", "none"] = "batch"
    """Normalisation after each convolution. Only batch and none give seam-free tiles."""

    bias: bool | None = None
    """Whether convolutions have a bias; null: where no norm follows, which would subtract it."""

    activation: Literal["relu", "leaky_relu", "elu"] = "leaky_relu"
    """Non-linearity after each normalisation; the leaky one has slope 0.01."""

    dropout: Share | tuple[Share, ...] = 0.0
    """Share of activations set to zero in training: one number, or one for each stage."""

    dropout_place: Literal["every", "first", "contracting"] = "every"
    """After every activation, after the first of a stage, or at a stage's end on the way down."""

    downsampling: Literal["strided", "max_pool"] = "strided"
    """Stride in a stage's first convolution, or a max-pool of the stride's size before it."""

    upsampling: Literal["transposed", "linear", "interpolate"] = "transposed"
    """Transposed convolution with kernel = stride; or 1x1 convolution and linear interpolation; or
    interpolation alone, where a stage's last convolution gives the features of the stage above."""

    align_corners: bool = False
    """Whether interpolation stretches corner to corner, as some published networks do: its weights
    then depend on the window's size, and tiles have seams."""

    padding: Literal["same", "valid"] = "same"
    """Zero-padded, output as large as input; or unpadded with cropped skips, output smaller."""

    deep_supervision: Annotated[int, Field(ge=0)] = 0
    """Coarser stages of the way up that give logits too, in training only; 0: none."""

    @property
    def total_stride(self) -> Shape:
        """Input voxels per voxel of the bottom stage, per axis."""
        return tuple(prod(axis) for axis in zip(*self.strides, strict=True))

    @property
    def least_bottom(self) -> int:
        """Voxels the bottom stage needs: two where a norm takes the spread of one window."""
        return 2 if self.norm in ("instance", "group") else 1

    @property
    def dropouts(self) -> tuple[float, ...]:
        """Share of each stage, top first."""
        if isinstance(self.dropout, tuple):
            return self.dropout
        return (self.dropout,) * len(self.features)

    def output_size(self, axis: int, size: int) -> int | None:
        """Give the output's size along one axis; None where the input does not fit."""
        bottom = self.bottom_size(axis, size)
        if self.padding == "same" or bottom is None:
            return None if bottom is None else size
        return self._size_at_top(axis, bottom)

    def bottom_size(self, axis: int, size: int) -> int | None:
        """Give the bottom stage's size along one axis; None where the input does not fit."""
        if self.padding == "same":
            return super().bottom_size(axis, size)
        strided = self.downsampling == "strided"
        for kernels, strides in zip(self.kernels, self.strides, strict=True):
            kernel, stride = kernels[axis], strides[axis]
            # An unpadded strided convolution gives (size - kernel) / stride + 1.
            whole = size - (kernel - stride if strided else 0)
            unstrided_convs = self.convs_per_stage - (1 if strided else 0)
            size = whole // stride - (kernel - 1) * unstrided_convs
            if whole % stride or size < 1:
                return None
        return size

    def _size_at_top(self, axis: int, size: int) -> int | None:
        for kernels, strides in zip(self.kernels[-2::-1], self.strides[:0:-1], strict=True):
            size = size * strides[axis] - (kernels[axis] - 1) * self.convs_per_stage
            if size < 1:
                return None
        return size

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        stages = len(self.features)
        for name, values in (("strides", self.strides), ("kernels", self.kernels)):
            if len(values) != stages:
                raise ValueError(
                    f"features has {stages} stages, {name} has {len(values)}: "
                    f"give features, strides and kernels one entry per stage"
                )
            if wrong := [value for value in values if len(value) != self.ndim]:
                raise ValueError(
                    f"{name} has {wrong[0]} in a network with ndim={self.ndim}: "
                    f"give each stage {self.ndim} numbers, one per spatial axis"
                )
        if len(self.dropouts) != stages:
            raise ValueError(
                f"dropout has {len(self.dropouts)} shares for {stages} stages: give one number, "
                f"or one for each stage"
            )
        return self

    @model_validator(mode="after")
    def _sizes_work(self) -> Self:
        if any(step != 1 for step in self.strides[0]):
            raise ValueError(
                f"strides starts with {self.strides[0]}: the first stage works at the input's "
                f"resolution, start with {(1,) * self.ndim}"
            )
        if even := [kernel for kernel in self.kernels if any(side % 2 == 0 for side in kernel)]:
            raise ValueError(
                f"kernels has {even[0]}: an even kernel has no middle voxel and shifts the mask, "
                f"use odd sizes"
            )
        if self.padding == "valid" and self.downsampling == "strided":
            self._check_unpadded_steps()
        return self

    def _check_unpadded_steps(self) -> None:
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            if any(side < step for side, step in zip(kernel, stride, strict=True)):
                raise ValueError(
                    f"stride {stride} is larger than kernel {kernel}: unpadded, the way up would "
                    f"be larger than its skip; use a larger kernel or downsampling='max_pool'"
                )

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.deep_supervision > (most := max(0, len(self.features) - 2)):
            raise ValueError(
                f"deep_supervision is {self.deep_supervision} with {len(self.features)} stages: "
                f"between the finest stage and the bottom there are {most}, use at most that"
            )
        if self.padding == "valid" and (self.blocks == "residual" or self.deep_supervision):
            raise ValueError(
                "padding='valid' shrinks a stage, so that neither its input nor coarser truth "
                "lies on its output: use padding='same', or plain blocks without deep supervision"
            )
        if self.align_corners and self.upsampling == "transposed":
            raise ValueError(
                "align_corners needs something to interpolate: use upsampling='linear' or "
                "'interpolate', or leave it false"
            )
        return self
