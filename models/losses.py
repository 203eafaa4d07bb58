"""What training minimises."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DiceCELoss(nn.Module):
    """Soft Dice plus cross-entropy, each with weight one; voxels without truth take no part.

    Dice is summed over the whole batch before it is divided, so that a patch without a class
    does not weigh as much as one full of it. Every voxel labelled ``ignore_index`` has a gradient
    of exactly zero, whatever its logits, NaN included; a batch of nothing else has loss zero.

    Sources:
        Milletari, Navab, Ahmadi: V-Net, 3DV 2016 (soft Dice). Isensee et al.: nnU-Net, Nature
        Methods 2021 (the sum; Dice over the batch). Denominator as in Drozdzal et al. 2016:
        plain sums, not squares.
    """

    def __init__(self, *, background: bool, ignore_index: int = 255, smooth: float = 1e-5) -> None:
        """Choose what counts.

        Args:
            background: Whether class 0 takes part in Dice; it always does in cross-entropy.
            ignore_index: Label of voxels that are left out.
            smooth: Voxels added above and below Dice's fraction, so that an absent class that is
                not predicted scores one.

        Raises:
            ValueError: ``smooth`` is not positive.
        """
        super().__init__()
        if not smooth > 0:
            raise ValueError(
                f"smooth is {smooth}: an absent class would give 0/0, use a small positive number"
            )
        self.background = background
        self.ignore_index = ignore_index
        self.smooth = smooth

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss, a float32 scalar.

        Args:
            logits: Network output, (B, K, *S), any float dtype; computed in float32.
            labels: Truth, (B, *S), any integer dtype: 0 to K - 1 or ``ignore_index``.

        Raises:
            ValueError: Shapes or dtype disagree, or Dice is left without a class.
            IndexError: A label is neither a class nor ``ignore_index`` (on CUDA a device assert).
        """
        dice, cross_entropy = self.parts(logits, labels)
        return dice + cross_entropy

    def parts(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Give Dice loss and cross-entropy apart, as :meth:`forward` adds them."""
        self._check(logits, labels)
        valid = labels != self.ignore_index  # (B, *S)
        # Filling first, not weighing by zero last, keeps NaN out too: 0 * NaN is NaN.
        log_p = logits.float().masked_fill(~valid.unsqueeze(1), 0).log_softmax(dim=1)
        return self._dice(log_p, labels, valid), self._cross_entropy(log_p, labels, valid)

    def _dice(self, log_p: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        voxels = [0, *range(2, log_p.ndim)]
        p = log_p.exp() * valid.unsqueeze(1)  # (B, K, *S)
        classes = torch.arange(log_p.shape[1], device=labels.device)
        truth = labels.unsqueeze(1) == classes.view(-1, *[1] * (labels.ndim - 1))  # (B, K, *S)
        truth = truth & valid.unsqueeze(1)
        overlap = (p * truth).sum(voxels)  # (K,)
        total = p.sum(voxels) + truth.sum(voxels)
        dice = (2 * overlap + self.smooth) / (total + self.smooth)
        return 1 - dice[0 if self.background else 1 :].mean()

    def _cross_entropy(self, log_p: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        total = F.nll_loss(log_p, labels.long(), ignore_index=self.ignore_index, reduction="sum")
        # torch's own mean is 0/0 where no voxel is valid.
        return total / valid.sum().clamp(min=1)

    def _check(self, logits: Tensor, labels: Tensor) -> None:
        expected = (logits.shape[0], *logits.shape[2:])
        if tuple(labels.shape) != expected:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, logits {tuple(logits.shape)} need "
                f"{expected}: give one class index per voxel, without a channel axis"
            )
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"labels are {labels.dtype}: give class indices in an integer dtype")
        if logits.shape[1] == 1 and not self.background:
            raise ValueError(
                "logits have 1 class and background is left out, so Dice has no class: "
                "use background=True or a network with 2 classes"
            )
