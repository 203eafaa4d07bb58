"""From a network's output to what a mask holds at each voxel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from models.losses.build import activation, regions_of
from models.losses.settings import BCESettings, LossSettings


@dataclass(frozen=True)
class Decision:
    """Makes class numbers, or values, of logits. A plain value: it travels to workers.

    It is a linear map followed by nothing or by the largest of classes, so that averaging logits
    and deciding gives what deciding on the average does.
    """

    kind: Literal["softmax", "sigmoid", "linear"]
    """What the logits are: of exclusive classes, of regions, or standardised values."""
    members: tuple[tuple[bool, ...], ...] = ()
    """For each class, which regions it belongs to; of ``sigmoid``."""
    mean: float = 0.0
    """Value of a logit of 0; of ``linear``."""
    std: float = 1.0
    """Value of a logit of 1, less the mean; of ``linear``."""

    @classmethod
    def of(
        cls,
        loss: LossSettings,
        *,
        classes: int,
        background: bool,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> Self:
        """Give the decision that goes with a loss.

        Args:
            loss: What the network was trained with.
            classes: Number of classes, background included; of no meaning in regression.
            background: Whether class 0 is a class like the others.
            mean: Subtracted from the targets of a regression.
            std: What they were divided by.

        Raises:
            ValueError: The regions do not tell all classes apart.
        """
        kind = activation(loss)
        if not isinstance(loss, BCESettings):
            return cls(kind, (), mean, std) if kind == "linear" else cls(kind)
        regions = regions_of(loss, classes=classes, background=background)
        members = tuple(tuple(number in r for r in regions) for number in range(classes))
        _refuse_alike(members)
        return cls(kind, members)

    def __call__(self, logits: Tensor) -> Tensor:
        """Decide.

        Args:
            logits: Of one image, (K, *S) float32.

        Returns:
            Class numbers, (*S) int64; or values, (*S) float32, of a regression.
        """
        if self.kind == "linear":
            return logits[0] * self.std + self.mean
        return self.scores(logits).argmax(dim=0)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give what the logits are the probabilities of: of each class, or of each region.

        Args:
            logits: Of one image, (K, *S) float32; of a regression there are none.

        Returns:
            (K, *S) float32, 0 to 1.
        """
        assert self.kind != "linear"
        return logits.softmax(0) if self.kind == "softmax" else logits.sigmoid()

    def scores(self, logits: Tensor) -> Tensor:
        """Give a score of each class, (classes, *S): the class of the highest is decided for.

        Regions are independent, each inside with probability sigmoid(logit). The likelihood of a
        class is the product of p over its regions and 1 - p over the others; but for a constant,
        its logarithm is the sum of the logits of its regions. Of regions without overlap it
        decides for the most probable one, if that is above one half.
        """
        if self.kind != "sigmoid":
            return logits
        members = torch.tensor(self.members, dtype=logits.dtype, device=logits.device)
        scores: Tensor = torch.tensordot(members, logits, dims=1)
        return scores


def _refuse_alike(members: Sequence[tuple[bool, ...]]) -> None:
    for number, row in enumerate(members):
        if row in members[:number]:
            raise ValueError(
                f"classes {members.index(row)} and {number} belong to the same regions, so that "
                "no mask could tell them apart: give one of them a region of its own"
            )
