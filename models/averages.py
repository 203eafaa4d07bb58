"""The mean of several outputs for the same voxels, as logits again."""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Average: TypeAlias = Literal["softmax", "sigmoid", "linear"]
"""What is averaged: probabilities of exclusive classes, of regions, or the outputs themselves."""
LEAST = 1e-30
"""Probability that stands for none, whose logarithm is finite in float32."""
NEAREST = 2.0**-24
"""How near to 0 or 1 a region's probability comes: float32 tells no nearer to 1."""


def average(outputs: Iterable[Tensor], kind: Average) -> Tensor:
    """Give logits whose probabilities are the mean of those of several outputs.

    They are added in the order they come in, one held at a time.

    Args:
        outputs: Logits, each (B, K, *S); at least one.
        kind: What they mean.

    Returns:
        (B, K, *S) float32: log-probabilities of classes, logits of regions, or mean values.
    """
    total: Tensor | None = None
    count = 0
    for one in outputs:
        value = _as_probabilities(one.float(), kind)
        total = value if total is None else total.add_(value)
        count += 1
    assert total is not None
    mean = total.div_(count)
    if kind == "softmax":
        return mean.clamp_(min=LEAST).log_()
    return torch.logit(mean, eps=NEAREST) if kind == "sigmoid" else mean


def _as_probabilities(logits: Tensor, kind: Average) -> Tensor:
    if kind == "softmax":
        return logits.softmax(1)
    return logits.sigmoid() if kind == "sigmoid" else logits.clone()
