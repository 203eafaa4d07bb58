"""Soft overlap of exclusive classes, alone and with cross-entropy or focal loss."""

from torch import Tensor, nn

from models.losses.cross_entropy import mean_nll, nll
from models.losses.masking import (
    IGNORED,
    check_classes,
    check_smooth,
    first_scored,
    masked_logits,
    one_hot,
)


def soft_dice(p: Tensor, truth: Tensor, smooth: float) -> Tensor:
    """Give the soft Dice score of each class, summed over the whole batch before dividing.

    Args:
        p: Probabilities, (B, K, *S), zero at ignored voxels.
        truth: Whether a voxel is of the class, (B, K, *S), false at ignored voxels.
        smooth: Voxels added above and below the fraction.

    Returns:
        Scores, (K,).
    """
    voxels = [0, *range(2, p.ndim)]
    overlap = (p * truth).sum(voxels)  # (K,)
    total = p.sum(voxels) + truth.sum(voxels)
    return (2 * overlap + smooth) / (total + smooth)


class DiceLoss(nn.Module):
    """One minus the soft Dice score, averaged over classes; voxels without truth take no part.

    Dice is summed over the whole batch before it is divided, so that a patch without a class
    does not weigh as much as one full of it. Every voxel labelled ``ignore_index`` has a gradient
    of exactly zero, whatever its logits, NaN included; a batch of nothing else has loss zero.

    Sources:
        Milletari, Navab, Ahmadi: V-Net, 3DV 2016. Denominator as in Drozdzal et al. 2016: plain
        sums, not squares.
    """

    def __init__(
        self, *, background: bool, ignore_index: int = IGNORED, smooth: float = 1e-5
    ) -> None:
        """Choose what counts.

        Args:
            background: Whether class 0 takes part in the overlap.
            ignore_index: Label of voxels that are left out.
            smooth: Voxels added above and below the fraction, so that an absent class that is
                not predicted scores one.

        Raises:
            ValueError: ``smooth`` is not positive.
        """
        super().__init__()
        self.background = background
        self.ignore_index = ignore_index
        self.smooth = check_smooth(smooth)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss, a float32 scalar.

        Args:
            logits: Network output, (B, K, *S), any float dtype; computed in float32.
            labels: Truth, (B, *S), any integer dtype: 0 to K - 1 or ``ignore_index``.

        Raises:
            ValueError: Shapes or dtype disagree, or the overlap is left without a class.
            IndexError: A label is neither a class nor ``ignore_index``.
        """
        log_p, valid = self._log_probabilities(logits, labels)
        check_classes(labels, valid, log_p.shape[1])
        return self._overlap_loss(log_p, labels, valid)

    def _log_probabilities(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        masked, valid = masked_logits(logits, labels, self.ignore_index)
        return masked.log_softmax(dim=1), valid

    def _overlap_loss(self, log_p: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        p = log_p.exp() * valid.unsqueeze(1)  # (B, K, *S)
        scores = self._scores(p, one_hot(labels, valid, log_p.shape[1]))
        return 1 - scores[first_scored(log_p.shape[1], self.background) :].mean()

    def _scores(self, p: Tensor, truth: Tensor) -> Tensor:
        return soft_dice(p, truth, self.smooth)


class TverskyLoss(DiceLoss):
    """One minus the soft Tversky index: Dice with false positives and negatives weighed apart.

    Both weights 0.5 give soft Dice, both 1 the Jaccard index. Ignored voxels as in
    :class:`DiceLoss`.

    Source:
        Salehi, Erdogmus, Gholipour: Tversky loss function, MLMI 2017.
    """

    def __init__(
        self,
        *,
        background: bool,
        false_positives: float = 0.3,
        false_negatives: float = 0.7,
        ignore_index: int = IGNORED,
        smooth: float = 1e-5,
    ) -> None:
        """Choose what counts.

        Args:
            background: Whether class 0 takes part.
            false_positives: Weight of voxels predicted and not true; alpha of the paper.
            false_negatives: Weight of voxels true and not predicted; beta of the paper.
            ignore_index: Label of voxels that are left out.
            smooth: Voxels added above and below the fraction.

        Raises:
            ValueError: ``smooth`` is not positive.
        """
        super().__init__(background=background, ignore_index=ignore_index, smooth=smooth)
        self.false_positives = false_positives
        self.false_negatives = false_negatives

    def _scores(self, p: Tensor, truth: Tensor) -> Tensor:
        voxels = [0, *range(2, p.ndim)]
        hit = (p * truth).sum(voxels)  # (K,)
        wrong = (p * ~truth).sum(voxels)
        missed = ((1 - p) * truth).sum(voxels)
        weighted = hit + self.false_positives * wrong + self.false_negatives * missed
        return (hit + self.smooth) / (weighted + self.smooth)


class DiceCELoss(DiceLoss):
    """Soft Dice plus cross-entropy, each with weight one; voxels without truth take no part.

    Dice is summed over the whole batch before it is divided, so that a patch without a class
    does not weigh as much as one full of it. Every voxel labelled ``ignore_index`` has a gradient
    of exactly zero, whatever its logits, NaN included; a batch of nothing else has loss zero.
    Class 0 always takes part in cross-entropy.

    Sources:
        Milletari, Navab, Ahmadi: V-Net, 3DV 2016 (soft Dice). Isensee et al.: nnU-Net, Nature
        Methods 2021 (the sum; Dice over the batch). Denominator as in Drozdzal et al. 2016:
        plain sums, not squares.
    """

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
        log_p, valid = self._log_probabilities(logits, labels)
        dice = self._overlap_loss(log_p, labels, valid)
        return dice, mean_nll(log_p, labels, valid, self.ignore_index)


class DiceFocalLoss(DiceLoss):
    """Soft Dice plus focal loss over softmax, each with weight one.

    Focal loss is the mean over valid voxels of (1 - p)^gamma times the cross-entropy, p being the
    probability of the true class; gamma 0 gives :class:`DiceCELoss`. Ignored voxels as there.

    Source:
        Lin et al.: Focal loss for dense object detection, ICCV 2017.
    """

    def __init__(
        self,
        *,
        background: bool,
        gamma: float = 2.0,
        ignore_index: int = IGNORED,
        smooth: float = 1e-5,
    ) -> None:
        """Choose what counts.

        Args:
            background: Whether class 0 takes part in Dice; it always does in focal loss.
            gamma: How much voxels that are already right lose weight.
            ignore_index: Label of voxels that are left out.
            smooth: Voxels added above and below Dice's fraction.

        Raises:
            ValueError: ``smooth`` is not positive.
        """
        super().__init__(background=background, ignore_index=ignore_index, smooth=smooth)
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss, a float32 scalar; arguments and errors as of :class:`DiceCELoss`."""
        log_p, valid = self._log_probabilities(logits, labels)
        dice = self._overlap_loss(log_p, labels, valid)
        terms = nll(log_p, labels, self.ignore_index, "none")  # (B, *S)
        # A root of zero has no gradient, and one voxel without makes all NaN.
        doubt = (-(-terms).expm1()).clamp(min=1e-12)  # 1 - p
        return dice + (doubt**self.gamma * terms).sum() / valid.sum().clamp(min=1)
