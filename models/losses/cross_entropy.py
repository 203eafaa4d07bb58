"""Cross-entropy of exclusive classes, weighed by class and by voxel."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.losses.masking import IGNORED, masked_logits


class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy over the voxels with truth.

    Class weights make it a weighted mean, as torch's: the sum of weighted terms over the sum of
    the class weights. A map of voxel weights multiplies the terms and not the divisor, so that
    the loss stays proportional to the energy of Ronneberger et al. 2015, whatever else lies in
    the batch. Every voxel labelled ``ignore_index`` has a gradient of exactly zero, whatever its
    logits and weights, NaN included; a batch of nothing else has loss zero.
    """

    def __init__(
        self, *, class_weights: Sequence[float] | None = None, ignore_index: int = IGNORED
    ) -> None:
        """Choose what weighs how much.

        Args:
            class_weights: One for each class; None: all weigh one.
            ignore_index: Label of voxels that are left out.
        """
        super().__init__()
        self.class_weights = None if class_weights is None else torch.tensor(class_weights).float()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Give the loss, a float32 scalar.

        Args:
            logits: Network output, (B, K, *S), any float dtype; computed in float32.
            labels: Truth, (B, *S), any integer dtype: 0 to K - 1 or ``ignore_index``.
            weights: Weight of each voxel, (B, *S), not negative; None: all weigh one.

        Raises:
            ValueError: Shapes or dtype disagree.
            IndexError: A label is neither a class nor ``ignore_index`` (on CUDA a device assert).
        """
        masked, valid = masked_logits(logits, labels, self.ignore_index)
        log_p = masked.log_softmax(dim=1)
        if self.class_weights is None and weights is None:
            return mean_nll(log_p, labels, valid, self.ignore_index)
        by_class = self._class_weights(log_p, labels, valid)  # (B, *S)
        terms = nll(log_p, labels, self.ignore_index, reduction="none") * by_class
        if weights is not None:
            terms = terms * _checked(weights, labels).float().masked_fill(~valid, 0)
        divisor = by_class.sum()
        return terms.sum() / divisor.where(divisor > 0, 1)

    def _class_weights(self, log_p: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        if self.class_weights is None:
            return valid.float()
        if len(self.class_weights) != log_p.shape[1]:
            raise ValueError(
                f"there are {len(self.class_weights)} class weights for {log_p.shape[1]} classes: "
                "give one for each class, background included"
            )
        by_class = self.class_weights.to(labels.device)
        return by_class[labels.long().masked_fill(~valid, 0)] * valid


def nll(log_p: Tensor, labels: Tensor, ignore_index: int, reduction: str) -> Tensor:
    """Give minus the log-probability of the true class; zero where it is ignored."""
    return F.nll_loss(log_p, labels.long(), ignore_index=ignore_index, reduction=reduction)


def mean_nll(log_p: Tensor, labels: Tensor, valid: Tensor, ignore_index: int) -> Tensor:
    """Give the mean of :func:`nll` over valid voxels; zero where there is none."""
    # torch's own mean is 0/0 where no voxel is valid.
    return nll(log_p, labels, ignore_index, "sum") / valid.sum().clamp(min=1)


def _checked(weights: Tensor, labels: Tensor) -> Tensor:
    if weights.shape != labels.shape:
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}, labels {tuple(labels.shape)}: "
            "give one weight per voxel, without a channel axis"
        )
    return weights
