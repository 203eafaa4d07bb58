"""Published networks, layer by layer, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from models.base import Shape
from models.encoder_settings import Encoder, EncoderUNetSettings
from models.settings import (
    AttentionUNetSettings,
    DenseUNetSettings,
    DynUNetSettings,
    ModelSettings,
    SegResNetSettings,
    SwinUNETRSettings,
    UNetPlusPlusSettings,
    UNetSettings,
)

Axes = Literal[2, 3]
MOST_FEATURES = {2: 512, 3: 320}
# As nnU-Net plans for patches of 512 x 512 and of 128 x 128 x 128 voxels.
NNUNET_STAGES = {2: 8, 3: 6}


@dataclass(frozen=True)
class Preset:
    """A published network."""

    make: Callable[..., ModelSettings]
    """Its settings, from ndim, in_channels and out_channels."""
    source: str
    """Where it was published."""


def preset(
    name: str, ndim: Axes, in_channels: int, out_channels: int, **options: Any
) -> ModelSettings:
    """Give the settings of a published network.

    Args:
        name: One of :data:`PRESETS`.
        ndim: Spatial axes. A network published for two has the same stages in three.
        in_channels: Channels of the input, C.
        out_channels: Classes of the output, K.
        options: What the preset's own function takes beyond these.

    Raises:
        ValueError: There is no preset of that name.

    Example:
        >>> preset("unet-2015", 2, 1, 2).features
        (64, 128, 256, 512, 1024)
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}: use one of {', '.join(PRESETS)}")
    shape = {"ndim": ndim, "in_channels": in_channels, "out_channels": out_channels}
    return PRESETS[name].make(**shape, **options)


def unet_2015(ndim: Axes, in_channels: int, out_channels: int) -> UNetSettings:
    """The U-Net of the ISBI 2012 challenge: 572 x 572 voxels in, 388 x 388 out.

    Unpadded 3x3 convolutions, ReLU, no norm, 2x2 max-pool, 2x2 up-convolution that halves the
    features. Dropout of one half ends the last two stages of the contracting path, as in the
    released network. After the up-convolution there is no ReLU: the paper has none, the release
    does.
    """
    return _unet(
        ndim,
        in_channels,
        out_channels,
        features=(64, 128, 256, 512, 1024),
        padding="valid",
        dropout=(0, 0, 0, 0.5, 0.5),
        dropout_place="contracting",
    )


def unet_small(ndim: Axes, in_channels: int, out_channels: int) -> UNetSettings:
    """The small U-Net of tutorials on nuclei (Data Science Bowl 2018); 1.9 million parameters.

    Padded 3x3 convolutions, ReLU, no norm, dropout of 0.1 to 0.3 between a stage's two
    convolutions, transposed convolutions. The sigmoid belongs to the loss.
    """
    return _unet(
        ndim,
        in_channels,
        out_channels,
        features=(16, 32, 64, 128, 256),
        dropout=(0.1, 0.1, 0.2, 0.2, 0.3),
        dropout_place="first",
    )


def unet_bilinear(
    ndim: Axes, in_channels: int, out_channels: int, bilinear: bool = True
) -> UNetSettings:
    """The U-Net of double convolutions with batch norm (milesial/Pytorch-UNet).

    Interpolation stretches corner to corner, as published, so tiles have seams; with
    ``bilinear=False`` transposed convolutions take its place, and tiles have none.
    """
    return _unet(
        ndim,
        in_channels,
        out_channels,
        features=(64, 128, 256, 512, 512 if bilinear else 1024),
        norm="batch",
        upsampling="interpolate" if bilinear else "transposed",
        align_corners=bilinear,
    )


def nnunet(
    ndim: Axes,
    in_channels: int,
    out_channels: int,
    strides: Sequence[Shape] | None = None,
    kernels: Sequence[Shape] | None = None,
    base_features: int = 32,
    most_features: int | None = None,
    deep_supervision: bool = True,
) -> UNetSettings:
    """The plain network of nnU-Net, from what its plans hold.

    Strided 3x3 convolutions with bias, instance norm, leaky ReLU, transposed convolutions, a head
    on every stage of the way up. Instance norm keeps statistics of the window: tiles have seams
    and are blended.

    Args:
        ndim: Spatial axes.
        in_channels: Channels of the input, C.
        out_channels: Classes of the output, K.
        strides: Of each stage, ``pool_op_kernel_sizes``; None: halving all axes, 8 stages in two
            dimensions and 6 in three.
        kernels: Of each stage, ``conv_kernel_sizes``; None: three voxels a side.
        base_features: Of the first stage; each further one has twice as many.
        most_features: At which they stop growing; None: 512 in two dimensions, 320 in three.
        deep_supervision: Whether coarser stages give logits in training.
    """
    if strides is None:
        strides = ((1,) * ndim, *[(2,) * ndim] * (NNUNET_STAGES[ndim] - 1))
    stages, most = len(strides), most_features or MOST_FEATURES[ndim]
    return UNetSettings(
        ndim=ndim,
        in_channels=in_channels,
        out_channels=out_channels,
        features=tuple(min(base_features * 2**i, most) for i in range(stages)),
        strides=tuple(strides),
        kernels=tuple(kernels or [(3,) * ndim] * stages),
        norm="instance",
        bias=True,
        activation="leaky_relu",
        deep_supervision=max(0, stages - 2) if deep_supervision else 0,
    )


def dynunet(ndim: Axes, in_channels: int, out_channels: int) -> DynUNetSettings:
    """The nnU-Net of MONAI, with the stages of :func:`nnunet`."""
    plain = nnunet(ndim, in_channels, out_channels)
    return DynUNetSettings(
        ndim=ndim,
        in_channels=in_channels,
        out_channels=out_channels,
        features=plain.features,
        strides=plain.strides,
        kernels=plain.kernels,
        norm="instance",
    )


def _unet(ndim: Axes, in_channels: int, out_channels: int, **changes: Any) -> UNetSettings:
    fields: dict[str, Any] = {
        "strides": ((1,) * ndim, *[(2,) * ndim] * 4),
        "kernels": ((3,) * ndim,) * 5,
        "norm": "none",
        "activation": "relu",
        "downsampling": "max_pool",
    }
    shape = {"ndim": ndim, "in_channels": in_channels, "out_channels": out_channels}
    return UNetSettings(**(shape | fields | changes))


def _fc_densenet(layers: tuple[int, ...], growth: int) -> Callable[..., DenseUNetSettings]:
    return partial(DenseUNetSettings, first_features=48, growth=growth, layers=layers)


PRESETS: dict[str, Preset] = {
    "unet-2015": Preset(unet_2015, "Ronneberger et al., MICCAI 2015"),
    "unet-small": Preset(unet_small, "Data Science Bowl 2018 tutorials"),
    "unet-bilinear": Preset(unet_bilinear, "milesial/Pytorch-UNet, 2017"),
    "nnunet": Preset(nnunet, "Isensee et al., Nature Methods 2021"),
    "unet-plus-plus": Preset(UNetPlusPlusSettings, "Zhou et al., DLMIA 2018"),
    "attention-unet": Preset(AttentionUNetSettings, "Oktay et al., MIDL 2018"),
    "fc-densenet56": Preset(_fc_densenet((4,) * 6, 12), "Jégou et al., CVPR Workshops 2017"),
    "fc-densenet67": Preset(_fc_densenet((5,) * 6, 16), "Jégou et al., CVPR Workshops 2017"),
    "fc-densenet103": Preset(
        _fc_densenet((4, 5, 7, 10, 12, 15), 16), "Jégou et al., CVPR Workshops 2017"
    ),
    "segresnet": Preset(partial(SegResNetSettings, norm="group"), "Myronenko, BrainLes 2018"),
    "dynunet": Preset(dynunet, "Isensee et al., Nature Methods 2021, by MONAI"),
    "swin-unetr": Preset(SwinUNETRSettings, "Hatamizadeh et al., BrainLes 2021"),
    **{
        f"{encoder}-unet": Preset(partial(EncoderUNetSettings, encoder=encoder), source)
        for encoder in get_args(Encoder)
        for family, source in (
            ("resnet", "He et al., CVPR 2016"),
            ("resnext", "Xie et al., CVPR 2017"),
            ("densenet", "Huang et al., CVPR 2017"),
            ("efficientnet", "Tan and Le, ICML 2019"),
        )
        if encoder.startswith(family)
    },
}
