"""The planned loss of a batch: labels and weights laid on the network's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.losses import DeepSupervision, build_loss
from pipeline.plan_file import Plan


class PlannedLoss(nn.Module):
    """Gives the loss of a batch by the plan.

    Args:
        plan: Loss, classes and network.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._regression = plan.target is not None
        self._loss = DeepSupervision(
            build_loss(
                plan.loss,
                classes=len(plan.classes) or 1,
                background=plan.background is None,
                ignore_index=-1 if self._regression else int(plan.no_label),
            )
        )

    def forward(self, logits: Tensor | Sequence[Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Give the loss, a float32 scalar.

        Args:
            logits: (B, K, *S), or with deep supervision a list of them, finest first; of an
                unpadded network smaller than the labels, whose middle is taken.
            batch: ``label`` (B, *S), and ``weight`` (B, *S) where the plan has a border map.
        """
        finest = logits if isinstance(logits, Tensor) else logits[0]
        maps = [
            _middle(batch[name], finest).to(finest.device, non_blocking=True)
            for name in ("label", "weight")
            if name in batch
        ]
        if self._regression:
            maps[0] = maps[0].unsqueeze(1)  # (B, *S) -> (B, C, *S)
        loss: Tensor = self._loss(logits, *maps)
        return loss


def _middle(values: Tensor, like: Tensor) -> Tensor:
    """The middle of values (B, *S), as large as logits (B, K, *smaller)."""
    for axis, size in enumerate(like.shape[2:], start=1):
        values = values.narrow(axis, (values.shape[axis] - size) // 2, size)
    return values
