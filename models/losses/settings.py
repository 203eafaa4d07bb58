"""Which loss, as values: frozen, checked, and written into every run folder."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class BorderSettings(_Settings):
    """The border weight map of Ronneberger et al. 2015, made when patches are cut."""

    w0: Weight = 10.0
    """Weight of background in a gap of no width, above that of its class."""

    sigma: Positive = 5.0
    """Width of gaps between objects that still matter, in voxels."""


class CrossEntropySettings(_Settings):
    """Cross-entropy over softmax."""

    kind: Literal["ce"] = "ce"
    """Which loss this is."""

    class_weights: Annotated[tuple[Weight, ...], Field(min_length=1)] | None = None
    """Weight of each class, background included; null: all weigh one."""

    border: BorderSettings | None = None
    """Weigh the gaps between objects up; null: voxels weigh alike."""


class DiceSettings(_Settings):
    """Soft Dice over softmax."""

    kind: Literal["dice"] = "dice"
    """Which loss this is."""

    smooth: Positive = 1e-5
    """Voxels added above and below the fraction."""


class DiceCESettings(_Settings):
    """Soft Dice plus cross-entropy over softmax: the default."""

    kind: Literal["dice_ce"] = "dice_ce"
    """Which loss this is."""

    smooth: Positive = 1e-5
    """Voxels added above and below Dice's fraction."""


class DiceFocalSettings(_Settings):
    """Soft Dice plus focal loss over softmax, for classes that are rare and hard."""

    kind: Literal["dice_focal"] = "dice_focal"
    """Which loss this is."""

    gamma: Weight = 2.0
    """How much voxels that are already right lose weight; 0: not at all."""

    smooth: Positive = 1e-5
    """Voxels added above and below Dice's fraction."""


class TverskySettings(_Settings):
    """Soft Tversky index over softmax, for classes that are missed more than made up."""

    kind: Literal["tversky"] = "tversky"
    """Which loss this is."""

    false_positives: Weight = 0.3
    """Weight of voxels predicted and not true; alpha of the paper."""

    false_negatives: Weight = 0.7
    """Weight of voxels true and not predicted; beta of the paper."""

    smooth: Positive = 1e-5
    """Voxels added above and below the fraction."""


class BCESettings(_Settings):
    """Binary cross-entropy over a sigmoid for each output channel."""

    kind: Literal["bce"] = "bce"
    """Which loss this is."""

    regions: (
        Annotated[
            tuple[Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)], ...],
            Field(min_length=1),
        ]
        | None
    ) = None
    """Classes that each output channel unites; they may overlap. Null: a channel for each class,
    none for the background where there is one."""

    dice: bool = False
    """Whether soft Dice of each region is added."""


class ClDiceSettings(_Settings):
    """Soft centre-line Dice mixed with soft Dice over softmax, for thin structures."""

    kind: Literal["cldice"] = "cldice"
    """Which loss this is."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of centre-line Dice; the rest is Dice's."""

    iterations: Annotated[int, Field(ge=0)] = 3
    """Erosions; at least half of the widest structure's width in voxels."""


class MSESettings(_Settings):
    """Mean squared error, for regression."""

    kind: Literal["mse"] = "mse"
    """Which loss this is."""


class MAESettings(_Settings):
    """Mean absolute error, for regression."""

    kind: Literal["mae"] = "mae"
    """Which loss this is."""


class SmoothL1Settings(_Settings):
    """Squared error when small, absolute when large, for regression with outliers."""

    kind: Literal["smooth_l1"] = "smooth_l1"
    """Which loss this is."""

    beta: Positive = 1.0
    """Error at which it changes, in units of the target."""


LossSettings: TypeAlias = Annotated[
    CrossEntropySettings
    | DiceSettings
    | DiceCESettings
    | DiceFocalSettings
    | TverskySettings
    | BCESettings
    | ClDiceSettings
    | MSESettings
    | MAESettings
    | SmoothL1Settings,
    Field(discriminator="kind"),
]
