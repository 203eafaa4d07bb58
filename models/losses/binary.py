"""Loss of sigmoid heads: each output channel is a region, and regions may overlap."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.losses.dice import soft_dice
from models.losses.masking import IGNORED, check_classes, check_smooth, masked_logits


class RegionLoss(nn.Module):
    """Binary cross-entropy of each region, plus its soft Dice on request.

    A region is a union of classes, so that labels stay one number per voxel while the network's
    channels overlap: BraTS's whole tumour is ``(1, 2, 3)``, its core ``(1, 3)``. Every voxel
    labelled ``ignore_index`` has a gradient of exactly zero in all channels, whatever its logits,
    NaN included; a batch of nothing else has loss zero.
    """

    def __init__(
        self,
        *,
        regions: Sequence[Sequence[int]],
        classes: int,
        dice: bool = False,
        ignore_index: int = IGNORED,
        smooth: float = 1e-5,
    ) -> None:
        """Choose the regions.

        Args:
            regions: Classes of each output channel.
            classes: Number of classes that labels may have.
            dice: Whether soft Dice, averaged over regions and summed over the batch, is added.
            ignore_index: Label of voxels that are left out.
            smooth: Voxels added above and below Dice's fraction.

        Raises:
            ValueError: A region is empty or names no class, or ``smooth`` is not positive.
        """
        super().__init__()
        self.members = _members(regions, classes)  # (K, classes)
        self.dice = dice
        self.ignore_index = ignore_index
        self.smooth = check_smooth(smooth)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss, a float32 scalar.

        Args:
            logits: Network output before the sigmoid, (B, K, *S), one channel per region.
            labels: Truth, (B, *S), any integer dtype: a class or ``ignore_index``.

        Raises:
            ValueError: Shapes or dtype disagree, or there is not one channel per region.
            IndexError: A label is neither a class nor ``ignore_index``.
        """
        masked, valid = masked_logits(logits, labels, self.ignore_index)
        truth = self._truth(masked, labels, valid)
        terms = F.binary_cross_entropy_with_logits(masked, truth.float(), reduction="none")
        shown = valid.unsqueeze(1)
        loss = (terms * shown).sum() / (valid.sum().clamp(min=1) * masked.shape[1])
        if not self.dice:
            return loss
        return loss + 1 - soft_dice(masked.sigmoid() * shown, truth, self.smooth).mean()

    def _truth(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Whether a voxel is in a region, (B, K, *S); false at ignored voxels."""
        regions, classes = self.members.shape
        if logits.shape[1] != regions:
            raise ValueError(
                f"logits have {logits.shape[1]} channels for {regions} regions: "
                "give the network one output channel per region"
            )
        check_classes(labels, valid, classes)
        members = self.members.to(labels.device)
        inside = members[:, labels.long().masked_fill(~valid, 0)]  # (K, B, *S)
        return inside.transpose(0, 1) & valid.unsqueeze(1)


def _members(regions: Sequence[Sequence[int]], classes: int) -> Tensor:
    members = torch.zeros(len(regions), classes, dtype=torch.bool)
    for row, region in zip(members, regions, strict=True):
        if not region or min(region) < 0 or max(region) >= classes:
            raise ValueError(
                f"region {tuple(region)} is no union of classes 0 to {classes - 1}: "
                "name at least one of them, and no other"
            )
        row[list(region)] = True
    return members
