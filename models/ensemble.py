"""Several networks as one: the mean of their logits."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.network import Network
from models.settings import EnsembleSettings


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
        total: Tensor | None = None
        for member in self.members:
            logits = member(x).float()
            total = logits if total is None else total + logits
        assert total is not None
        return total / len(self.members)
