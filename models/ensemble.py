"""Several networks as one: the mean of what they say."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from models.averages import average
from models.network import Network
from models.settings import EnsembleSettings
from models.way_up import Box


class Ensemble(Network):
    """Networks of one kind, such as those of the folds of a cross-validation, asked together.

    Probabilities are averaged, of a regression values; given as logits again, so that it is one
    network like any other and one decision follows.

    Args:
        settings: What a member is, and how many there are.
        members: The networks.
    """

    settings: EnsembleSettings

    def __init__(self, settings: EnsembleSettings, members: Sequence[Network]) -> None:
        super().__init__(settings)
        self.members = nn.ModuleList(members)

    def compute(self, x: Tensor) -> Tensor:
        """Give the members' mean, as logits, (B, K, *S) float32."""
        return average((member(x) for member in self.members), self.settings.average)

    def inside(self, x: Tensor, box: Box) -> Tensor:
        """Give a box of the members' mean."""
        asked = (cast(Network, member).inside(x, box) for member in self.members)
        return average(asked, self.settings.average)
