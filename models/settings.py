"""What a network is made of, as values: frozen, checked, and written into every run folder."""

from math import prod
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
PerAxis = Annotated[tuple[Count, ...], Field(min_length=2, max_length=3)]


class UNetSettings(BaseModel):
    """A U-Net in two or three dimensions, as Ronneberger et al. 2015 and Çiçek et al. 2016.

    A stage is one resolution; the first stage is the input's. Every stage but the last, which is
    the bottom, exists twice: on the contracting path and, with the same features and kernels, on
    the expansive path.

    Raises:
        ValidationError: Fields disagree; the message says which and what to change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["unet"] = "unet"
    """Which network this is."""

    ndim: Literal[2, 3]
    """Spatial axes: 2 for (Y, X), 3 for (Z, Y, X)."""

    in_channels: Count
    """Channels of the input, C."""

    out_channels: Count
    """Classes of the output, K, background included."""

    features: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Feature maps of each stage, top first."""

    strides: Annotated[tuple[PerAxis, ...], Field(min_length=1)]
    """Downsampling before each stage, per axis; all ones for the first, which keeps the input's."""

    kernels: Annotated[tuple[PerAxis, ...], Field(min_length=1)]
    """Kernel size of each stage's convolutions in voxels, per axis; odd."""

    convs_per_stage: Count = 2
    """Convolutions in a stage, on either path."""

    norm: Literal["batch", "instance", "group", "none"] = "batch"
    """Normalisation after each convolution. Only batch and none give seam-free tiles."""

    activation: Literal["relu", "leaky_relu"] = "leaky_relu"
    """Non-linearity after each normalisation; the leaky one has slope 0.01."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of activations set to zero in training, after each activation."""

    downsampling: Literal["strided", "max_pool"] = "strided"
    """Stride in a stage's first convolution, or a max-pool of the stride's size before it."""

    upsampling: Literal["transposed", "linear"] = "transposed"
    """Transposed convolution with kernel = stride, or 1x1 convolution and linear interpolation."""

    padding: Literal["same", "valid"] = "same"
    """Zero-padded, output as large as input; or unpadded with cropped skips, output smaller."""

    @property
    def total_stride(self) -> tuple[int, ...]:
        """Input voxels per voxel of the bottom stage, per axis."""
        return tuple(prod(axis) for axis in zip(*self.strides, strict=True))

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


# One kind so far. A second one makes this Annotated[UNetSettings | Other, Field(discriminator=
# "kind")], and no importer changes.
ModelSettings: TypeAlias = UNetSettings
