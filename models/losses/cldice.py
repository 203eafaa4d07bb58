"""Centre-line Dice, for vessels, roads and other thin structures that must not break."""

from torch import Tensor
from torch.nn import functional as F

from models.losses.dice import DiceLoss
from models.losses.masking import IGNORED, check_classes, first_scored, one_hot

POOL = {2: F.max_pool2d, 3: F.max_pool3d}


class ClDiceLoss(DiceLoss):
    """Soft centre-line Dice, mixed with soft Dice.

    (1 - share) · (1 - Dice) + share · (1 - clDice). clDice is the harmonic mean of two shares:
    how much of the predicted skeleton lies in the truth, and how much of the true skeleton in the
    prediction. It is taken over all scored classes of a patch, then averaged over patches.
    Ignored voxels bound the image as its edge does: they neither thin nor thicken what touches
    them, and their gradient is exactly zero. A patch of nothing else has loss zero.

    Source:
        Shit et al.: clDice, CVPR 2021.
    """

    def __init__(
        self,
        *,
        background: bool,
        share: float = 0.5,
        iterations: int = 3,
        ignore_index: int = IGNORED,
        smooth: float = 1.0,
    ) -> None:
        """Choose the mix.

        Args:
            background: Whether class 0 takes part.
            share: Of clDice; the rest is Dice's. The paper's alpha.
            iterations: Erosions; at least half of the widest structure's width in voxels.
            ignore_index: Label of voxels that are left out.
            smooth: Voxels added above and below every fraction.

        Raises:
            ValueError: ``smooth`` is not positive.
        """
        super().__init__(background=background, ignore_index=ignore_index, smooth=smooth)
        self.share = share
        self.iterations = iterations

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Give the loss, a float32 scalar; arguments and errors as of :class:`DiceLoss`."""
        log_p, valid = self._log_probabilities(logits, labels)
        check_classes(labels, valid, log_p.shape[1])
        first = first_scored(log_p.shape[1], self.background)
        shown = valid.unsqueeze(1)
        p = (log_p.exp() * shown)[:, first:]
        truth = one_hot(labels, valid, log_p.shape[1])[:, first:].to(p.dtype)
        dice = self._scores(p, truth).mean()
        centre = self._centre_dice(p, truth, shown).mean()
        return (1 - self.share) * (1 - dice) + self.share * (1 - centre)

    def _centre_dice(self, p: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """Score of each patch, (B,)."""
        precise = self._inside(soft_skeleton(p, valid, self.iterations), truth)
        complete = self._inside(soft_skeleton(truth, valid, self.iterations), p)
        return 2 * precise * complete / (precise + complete)

    def _inside(self, skeleton: Tensor, structure: Tensor) -> Tensor:
        all_but_batch = list(range(1, skeleton.ndim))
        inside = (skeleton * structure).sum(all_but_batch)
        return (inside + self.smooth) / (skeleton.sum(all_but_batch) + self.smooth)


def soft_skeleton(p: Tensor, valid: Tensor, iterations: int) -> Tensor:
    """Give what opening takes away, at every thickness.

    Args:
        p: Probabilities, (B, K, *S), two or three spatial axes.
        valid: Voxels of the image, (B, 1, *S); the others are as if beyond its edge.
        iterations: Erosions.

    Returns:
        Skeleton in [0, 1], (B, K, *S), zero where not valid.
    """
    skeleton = F.relu(p - _opened(p, valid))
    for _ in range(iterations):
        p = _eroded(p, valid)
        ridge = F.relu(p - _opened(p, valid))
        skeleton = skeleton + F.relu(ridge - skeleton * ridge)
    return skeleton.masked_fill(~valid, 0)


def _opened(p: Tensor, valid: Tensor) -> Tensor:
    # Below every probability: never the largest in a window around a valid voxel.
    eroded = _eroded(p, valid).masked_fill(~valid, -1)
    ndim = p.ndim - 2
    return POOL[ndim](eroded, 3, stride=1, padding=1)


def _eroded(p: Tensor, valid: Tensor) -> Tensor:
    # Above every probability: never the smallest in a window around a valid voxel.
    negative = -p.masked_fill(~valid, 2)
    ndim = p.ndim - 2
    eroded = negative
    for axis in range(ndim):
        kernel = [3 if a == axis else 1 for a in range(ndim)]
        pad = [1 if a == axis else 0 for a in range(ndim)]
        line = POOL[ndim](negative, kernel, stride=1, padding=pad)
        eroded = line if axis == 0 else eroded.maximum(line)
    return -eroded
