"""Losses of depth, height and index maps: numbers instead of classes."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


class RegressionLoss(nn.Module):
    """Mean squared, absolute or smooth L1 error over the voxels with truth.

    A voxel whose target is NaN has a gradient of exactly zero, whatever the network gives there,
    NaN included; a batch of nothing else has loss zero.
    """

    def __init__(self, error: Literal["mse", "mae", "smooth_l1"], *, beta: float = 1.0) -> None:
        """Choose the error.

        Args:
            error: Squared, absolute, or squared below ``beta`` and absolute above (Girshick 2015).
            beta: Where smooth L1 changes, in units of the target.
        """
        super().__init__()
        self.error = error
        self.beta = beta

    def forward(self, values: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
        """Give the loss, a float32 scalar.

        Args:
            values: Network output, (B, C, *S), any float dtype; computed in float32.
            targets: Truth, (B, C, *S), any float dtype; NaN where there is none.
            valid: Where there is truth besides, bool (B, *S); None: wherever it is not NaN.

        Raises:
            ValueError: Shapes or dtypes disagree.
        """
        _check(values, targets, valid)
        known = ~targets.isnan()
        if valid is not None:
            known = known & valid.unsqueeze(1)
        values = values.float().masked_fill(~known, 0)
        targets = targets.float().masked_fill(~known, 0)
        return self._sum(values, targets) / known.sum().clamp(min=1)

    def _sum(self, values: Tensor, targets: Tensor) -> Tensor:
        match self.error:
            case "mse":
                return F.mse_loss(values, targets, reduction="sum")
            case "mae":
                return F.l1_loss(values, targets, reduction="sum")
            case "smooth_l1":
                return F.smooth_l1_loss(values, targets, reduction="sum", beta=self.beta)


def _check(values: Tensor, targets: Tensor, valid: Tensor | None) -> None:
    if targets.shape != values.shape:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, the network gives {tuple(values.shape)}: "
            "give targets of the same shape, channel axis included"
        )
    if not targets.is_floating_point():
        raise ValueError(
            f"targets are {targets.dtype}: give them in a float dtype, NaN where there is no truth"
        )
    expected = (values.shape[0], *values.shape[2:])
    if valid is not None and tuple(valid.shape) != expected:
        raise ValueError(
            f"valid has shape {tuple(valid.shape)}, the network gives {tuple(values.shape)}: "
            f"give {expected}, without a channel axis"
        )
