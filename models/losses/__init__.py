"""What training minimises, with voxels without truth left out exactly."""

from models.losses.binary import RegionLoss
from models.losses.border import border_reach, border_weights, instances_of
from models.losses.build import activation, build_loss, output_channels, regions_of
from models.losses.cldice import ClDiceLoss
from models.losses.cross_entropy import CrossEntropyLoss
from models.losses.deep_supervision import DeepSupervision
from models.losses.dice import DiceCELoss, DiceFocalLoss, DiceLoss, TverskyLoss
from models.losses.regression import RegressionLoss
from models.losses.settings import (
    BCESettings,
    BorderSettings,
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

__all__ = [
    "BCESettings",
    "BorderSettings",
    "ClDiceLoss",
    "ClDiceSettings",
    "CrossEntropyLoss",
    "CrossEntropySettings",
    "DeepSupervision",
    "DiceCELoss",
    "DiceCESettings",
    "DiceFocalLoss",
    "DiceFocalSettings",
    "DiceLoss",
    "DiceSettings",
    "LossSettings",
    "MAESettings",
    "MSESettings",
    "RegionLoss",
    "RegressionLoss",
    "SmoothL1Settings",
    "TverskyLoss",
    "TverskySettings",
    "activation",
    "border_reach",
    "border_weights",
    "build_loss",
    "instances_of",
    "output_channels",
    "regions_of",
]
