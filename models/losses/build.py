"""From a settings value to a loss, and to what the loss makes of the network's output."""

from typing import Literal

from torch import nn

from models.losses.binary import RegionLoss
from models.losses.cldice import ClDiceLoss
from models.losses.cross_entropy import CrossEntropyLoss
from models.losses.dice import DiceCELoss, DiceFocalLoss, DiceLoss, TverskyLoss
from models.losses.regression import RegressionLoss
from models.losses.settings import (
    BCESettings,
    ClDiceSettings,
    CrossEntropySettings,
    DiceCESettings,
    DiceFocalSettings,
    DiceSettings,
    LossSettings,
    MAESettings,
    MSESettings,
    SmoothL1Settings,
    TverskySettings,
)


def build_loss(
    settings: LossSettings, *, classes: int, background: bool, ignore_index: int
) -> nn.Module:
    """Build the loss that the settings describe.

    Args:
        settings: Which loss, and its parameters.
        classes: Number of classes that labels may have, background included; of no meaning in
            regression.
        background: Whether class 0 counts in overlaps; false where it is what is left over.
        ignore_index: Label of voxels that are left out.

    Returns:
        A loss of logits (B, K, *S) and labels (B, *S), a float32 scalar. Cross-entropy takes
        voxel weights (B, *S) as a third argument. Regression losses take values (B, C, *S) and
        targets of the same shape.

    Raises:
        ValueError: Class weights or regions do not go with the classes.
    """
    match settings:
        case CrossEntropySettings(class_weights=weights):
            _check_weights(weights, classes)
            # The border map holds the weight of the class already: w = w_c + w0 · exp(...).
            by_class = weights if settings.border is None else None
            return CrossEntropyLoss(class_weights=by_class, ignore_index=ignore_index)
        case DiceSettings(smooth=smooth):
            return DiceLoss(background=background, ignore_index=ignore_index, smooth=smooth)
        case DiceCESettings(smooth=smooth):
            return DiceCELoss(background=background, ignore_index=ignore_index, smooth=smooth)
        case DiceFocalSettings(gamma=gamma, smooth=smooth):
            return DiceFocalLoss(
                background=background, gamma=gamma, ignore_index=ignore_index, smooth=smooth
            )
        case TverskySettings():
            return TverskyLoss(
                background=background,
                false_positives=settings.false_positives,
                false_negatives=settings.false_negatives,
                ignore_index=ignore_index,
                smooth=settings.smooth,
            )
        case BCESettings(dice=dice):
            regions = regions_of(settings, classes=classes, background=background)
            return RegionLoss(
                regions=regions, classes=classes, dice=dice, ignore_index=ignore_index
            )
        case ClDiceSettings(share=share, iterations=iterations):
            return ClDiceLoss(
                background=background, share=share, iterations=iterations, ignore_index=ignore_index
            )
        case MSESettings() | MAESettings():
            return RegressionLoss(settings.kind)
        case SmoothL1Settings(beta=beta):
            return RegressionLoss(settings.kind, beta=beta)


def activation(settings: LossSettings) -> Literal["softmax", "sigmoid", "linear"]:
    """Give what turns the network's output into probabilities, or into values, for this loss."""
    match settings:
        case BCESettings():
            return "sigmoid"
        case MSESettings() | MAESettings() | SmoothL1Settings():
            return "linear"
        case _:
            return "softmax"


def output_channels(settings: LossSettings, *, classes: int, background: bool) -> int:
    """Give the channels, K, that the network needs for this loss.

    Args:
        settings: The loss.
        classes: Number of classes, background included; of targets, in regression.
        background: Whether class 0 is a class like the others.
    """
    if isinstance(settings, BCESettings):
        return len(regions_of(settings, classes=classes, background=background))
    return classes


def regions_of(
    settings: BCESettings, *, classes: int, background: bool
) -> tuple[tuple[int, ...], ...]:
    """Give the classes that each output channel of a sigmoid head unites.

    Example:
        >>> regions_of(BCESettings(), classes=3, background=False)
        ((1,), (2,))
    """
    if settings.regions is not None:
        return settings.regions
    return tuple((number,) for number in range(0 if background else 1, classes))


def _check_weights(weights: tuple[float, ...] | None, classes: int) -> None:
    if weights is not None and len(weights) != classes:
        raise ValueError(
            f"class_weights has {len(weights)} numbers for {classes} classes: "
            "give one for each class, background included"
        )
