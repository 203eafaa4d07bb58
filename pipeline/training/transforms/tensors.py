"""Tensors in and out of MONAI's transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def plain(value: Any) -> Tensor:
    """A tensor without MONAI's metadata."""
    return value.as_tensor() if hasattr(value, "as_tensor") else torch.as_tensor(value)


def within_slices(transform: Callable[[Tensor], Any], maps: Tensor, coarse: int | None) -> Tensor:
    """Apply a transform to each slice across the coarse axis, to all of a patch alike.

    Args:
        transform: Of (C, *P), 2-D where there is a coarse axis.
        maps: (C, *P).
        coarse: The spatial axis of slices; None: the transform sees the maps as they are.

    Returns:
        (C, *S), of as many slices.
    """
    if coarse is None:
        return plain(transform(maps))
    slices = maps.movedim(coarse + 1, 1)  # (C, Z, Y, X)
    done = plain(transform(slices.flatten(0, 1)))  # (C·Z, Y, X) -> (C·Z, V, U)
    return done.reshape(*slices.shape[:2], *done.shape[1:]).movedim(1, coarse + 1)
