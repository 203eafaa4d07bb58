"""Several networks as one: the mean of their logits."""

from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from models.network import Network
from models.settings import EnsembleSettings
from models.way_up import Box


class Ensemble(Network):
    """Networks of one kind, such as those of the folds of a cross-validation, asked together.

    Logits are averaged, as nnU-Net does (Isensee et al. 2021): a mean of linear outputs is one, so
    that tiles meet, values of a regression are averaged too, and one decision follows.

    Args:
        settings: What a member is, and how many there are.
        members: The networks.
    """

    settings: EnsembleSettings

    def __init__(self, settings: EnsembleSettings, members: Sequence[Network]) -> None:
        super().__init__(settings)
        self.members = nn.ModuleList(members)

    def compute(self, x: Tensor) -> Tensor:
        """Give the mean of the members' logits, (B, K, *S) float32."""
        return self._mean(member(x) for member in self.members)

    def inside(self, x: Tensor, box: Box) -> Tensor:
        """Give the mean of the members' logits in a box."""
        return self._mean(cast(Network, member).inside(x, box) for member in self.members)

    def _mean(self, logits: Iterable[Tensor]) -> Tensor:
        total: Tensor | None = None
        for one in logits:
            total = one.float() if total is None else total + one.float()
        assert total is not None
        return total / len(self.members)
