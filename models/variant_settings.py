"""What the relatives of the U-Net are made of."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.base import Count, NetworkSettings, PerAxis, Shape, Share, WindowNorm


class UNetPlusPlusSettings(NetworkSettings):
    """U-Net++ (Zhou et al., DLMIA 2018): the space between the paths filled with nodes."""

    kind: Literal["unet_plus_plus"] = "unet_plus_plus"
    """Which network this is."""

    features: tuple[Count, Count, Count, Count, Count] = (32, 64, 128, 256, 512)
    """Feature maps of the five stages, top first."""

    norm: WindowNorm = "batch"
    """Normalisation after each convolution. Only batch gives seam-free tiles."""

    dropout: Share = 0.0
    """Share of activations set to zero in training."""

    deep_supervision: bool = False
    """Whether, in training, the three nodes before the last give logits too, all full size."""

    @property
    def total_stride(self) -> Shape:
        """Sixteen: five stages, each half as fine as the one above."""
        return (16,) * self.ndim

    @property
    def least_bottom(self) -> int:
        """Two where a norm takes the spread of one window."""
        return 1 if self.norm == "batch" else 2


class AttentionUNetSettings(NetworkSettings):
    """Attention U-Net (Oktay et al., MIDL 2018): a gate on each skip."""

    kind: Literal["attention_unet"] = "attention_unet"
    """Which network this is."""

    features: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=2)] = (
        *(64, 128, 256, 512, 1024),
    )
    """Feature maps of each stage, top first."""

    norm: Literal["batch", "instance"] = "batch"
    """Normalisation where gated skips are merged; elsewhere it is batch. Instance, MONAI's own
    choice, gives tiles seams."""

    dropout: Share = 0.0
    """Share of activations set to zero in training."""

    @property
    def total_stride(self) -> Shape:
        """Two to the number of steps down."""
        return (2 ** (len(self.features) - 1),) * self.ndim


class DenseUNetSettings(NetworkSettings):
    """FC-DenseNet (Jégou et al., The One Hundred Layers Tiramisu, CVPRW 2017): a dense U-Net."""

    kind: Literal["dense_unet"] = "dense_unet"
    """Which network this is."""

    first_features: Count = 48
    """Feature maps of the first convolution."""

    growth: Count = 16
    """Feature maps that each layer of a dense block adds."""

    layers: Annotated[tuple[Count, ...], Field(min_length=2)] = (4, 5, 7, 10, 12, 15)
    """Layers of the dense block of each stage, top first, the bottom last."""

    norm: WindowNorm = "batch"
    """Normalisation before each convolution. Only batch gives seam-free tiles."""

    dropout: Share = 0.2
    """Share of activations set to zero in training, after each convolution."""

    @property
    def total_stride(self) -> Shape:
        """Two to the number of steps down."""
        return (2 ** (len(self.layers) - 1),) * self.ndim

    @property
    def features(self) -> Shape:
        """Feature maps that each stage passes down or, the last, makes; top first."""
        sums = [self.first_features]
        for count in self.layers:
            sums.append(sums[-1] + count * self.growth)
        return tuple(sums[1:])

    @property
    def least_bottom(self) -> int:
        """Two where a norm takes the spread of one window."""
        return 1 if self.norm == "batch" else 2


class SegResNetSettings(NetworkSettings):
    """SegResNet (Myronenko, BrainLes 2018), without its variational branch."""

    kind: Literal["segresnet"] = "segresnet"
    """Which network this is."""

    first_features: Count = 32
    """Feature maps of the first stage; each further one has twice as many."""

    blocks_down: Annotated[tuple[Count, ...], Field(min_length=2)] = (1, 2, 2, 4)
    """Residual blocks of each stage on the way down, top first."""

    blocks_up: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 1, 1)
    """Residual blocks of each stage on the way up, coarsest first."""

    norm: WindowNorm = "batch"
    """Normalisation before each convolution. The paper's is group; only batch gives seam-free
    tiles."""

    dropout: Share = 0.0
    """Share of the first convolution's feature maps set to zero in training."""

    @property
    def total_stride(self) -> Shape:
        """Two to the number of steps down."""
        return (2 ** (len(self.blocks_down) - 1),) * self.ndim

    @property
    def features(self) -> Shape:
        """Feature maps of each stage, top first."""
        return tuple(self.first_features * 2**i for i in range(len(self.blocks_down)))

    @property
    def least_bottom(self) -> int:
        """Two where a norm takes the spread of one window."""
        return 1 if self.norm == "batch" else 2

    @model_validator(mode="after")
    def _paths_meet(self) -> Self:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(
                f"blocks_down has {len(self.blocks_down)} stages, blocks_up "
                f"{len(self.blocks_up)}: the way up has one stage less than the way down"
            )
        return self


class DynUNetSettings(NetworkSettings):
    """DynUNet: MONAI's nnU-Net (Isensee et al., Nature Methods 2021), residual on request."""

    kind: Literal["dynunet"] = "dynunet"
    """Which network this is."""

    features: Annotated[tuple[Count, ...], Field(min_length=3)]
    """Feature maps of each stage, top first."""

    strides: Annotated[tuple[PerAxis, ...], Field(min_length=3)]
    """Downsampling before each stage, per axis; all ones for the first."""

    kernels: Annotated[tuple[PerAxis, ...], Field(min_length=3)]
    """Kernel size of each stage's convolutions in voxels, per axis; odd."""

    residual: bool = False
    """Whether the way down is of residual blocks."""

    norm: WindowNorm = "batch"
    """Normalisation after each convolution. nnU-Net's is instance; only batch gives seam-free
    tiles."""

    dropout: Share = 0.0
    """Share of feature maps set to zero in training."""

    deep_supervision: Annotated[int, Field(ge=0)] = 0
    """Coarser stages of the way up that give logits too, in training only, enlarged to full size;
    0: none."""

    @property
    def total_stride(self) -> Shape:
        """Input voxels per voxel of the bottom stage, per axis."""
        total = (1,) * self.ndim
        for stride in self.strides:
            total = tuple(a * b for a, b in zip(total, stride, strict=True))
        return total

    @property
    def least_bottom(self) -> int:
        """Two where a norm takes the spread of one window."""
        return 1 if self.norm == "batch" else 2

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        counts = {len(self.features), len(self.strides), len(self.kernels)}
        axes = {len(value) for value in (*self.strides, *self.kernels)}
        if len(counts) > 1 or axes != {self.ndim}:
            raise ValueError(
                f"features, strides and kernels have {len(self.features)}, {len(self.strides)} "
                f"and {len(self.kernels)} stages of {sorted(axes)} axes: give each one entry per "
                f"stage, with {self.ndim} numbers per stride and kernel"
            )
        if set(self.strides[0]) != {1} or any(n % 2 == 0 for k in self.kernels for n in k):
            raise ValueError(
                f"strides start with {self.strides[0]} and kernels are {self.kernels}: the first "
                f"stride is all ones, kernels are odd"
            )
        if self.deep_supervision > len(self.features) - 2:
            raise ValueError(
                f"deep_supervision is {self.deep_supervision} with {len(self.features)} stages: "
                f"use at most {len(self.features) - 2}"
            )
        return self


class SwinUNETRSettings(NetworkSettings):
    """Swin UNETR (Hatamizadeh et al., BrainLes 2021): windowed attention down, convolutions up."""

    kind: Literal["swin_unetr"] = "swin_unetr"
    """Which network this is."""

    first_features: Annotated[int, Field(ge=12, multiple_of=12)] = 48
    """Feature maps of the first stage; each further one has twice as many."""

    depths: tuple[Count, Count, Count, Count] = (2, 2, 2, 2)
    """Transformer blocks of the four stages of attention."""

    heads: tuple[Count, Count, Count, Count] = (3, 6, 12, 24)
    """Attention heads of the four stages."""

    window: Annotated[int, Field(ge=2)] = 7
    """Side of the windows within which voxels attend to each other, in voxels of their stage."""

    dropout: Share = 0.0
    """Share of activations set to zero in training."""

    @property
    def total_stride(self) -> Shape:
        """Thirty-two: patches of two, halved four times."""
        return (32,) * self.ndim

    @property
    def features(self) -> Shape:
        """Feature maps of each stage, top first."""
        return tuple(self.first_features * n for n in (1, 1, 2, 4, 8, 16))

    @property
    def least_bottom(self) -> int:
        """Two: its convolutions use instance norm."""
        return 2
