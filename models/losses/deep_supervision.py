"""One loss at every resolution that the network answers at."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DeepSupervision(nn.Module):
    """Weighted mean of a loss over the heads of a network, each half the weight of the finer.

    Labels are brought to a head's resolution by taking the voxel at the same place, so that
    ignored voxels stay ignored and no class is made up.

    Sources:
        Lee et al.: Deeply-supervised nets, AISTATS 2015. Weights as in Isensee et al.: nnU-Net,
        Nature Methods 2021.
    """

    def __init__(self, loss: nn.Module) -> None:
        """Choose the loss of each head."""
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor, *maps: Tensor) -> Tensor:
        """Give the loss, a float32 scalar.

        Args:
            logits: Output of each head, finest first: (B, K, *S), then (B, K, *smaller); a
                single tensor is one head.
            labels: Truth of the finest head, (B, *S); or targets, (B, C, *S).
            maps: What else the loss takes, as voxel weights, (B, *S).

        Raises:
            ValueError: There is no head.
        """
        heads = [logits] if isinstance(logits, Tensor) else list(logits)
        if not heads:
            raise ValueError("there are no logits: give those of one head at least, finest first")
        total = torch.zeros((), device=heads[0].device)
        for level, head in enumerate(heads):
            truth = [nearest(each, tuple(head.shape[2:])) for each in (labels, *maps)]
            total = total + self.loss(head, *truth) / 2**level
        return total / sum(0.5**level for level in range(len(heads)))


def nearest(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Give values at a lower resolution, exactly, in any dtype.

    Voxel i of n comes from voxel floor(i · N / n) of N: the first of each block, where a
    strided convolution is centred.

    Args:
        values: (..., *S).
        size: Spatial shape wanted.

    Example:
        >>> nearest(torch.arange(8), (4,)).tolist()
        [0, 2, 4, 6]
    """
    for axis, n in zip(range(-len(size), 0), size, strict=True):
        if values.shape[axis] != n:
            index = torch.arange(n, device=values.device) * values.shape[axis] // n
            values = values.index_select(axis, index)
    return values
