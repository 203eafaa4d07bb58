"""Volume stores → patch store."""

from pipeline.patches.placement import Placement
from pipeline.patches.settings import PatchSettings
from pipeline.patches.stage import STAGE, cut_patch, cut_patches, patch, plan_patches

__all__ = [
    "STAGE",
    "PatchSettings",
    "Placement",
    "cut_patch",
    "cut_patches",
    "patch",
    "plan_patches",
]
