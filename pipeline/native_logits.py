"""Logits of the planned grid, back on a case's own grid, window by window.

Logits are interpolated linearly and then compared, as in nnU-Net: a border between two classes
lies where their interpolated logits cross, between voxels of the planned grid. Interpolating
the labels instead would draw that grid's steps into the mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import GridError
from pipeline.space import Resampling, Window
from pipeline.space.interpolation import Taps, interpolate
from pipeline.space.resampling import changed_axes


def interpolate_logits(logits: Tensor, resampling: Resampling, window: Window) -> Tensor:
    """Logits (or probabilities) of a native window.

    A window of any size gives the values that the whole volume would give there, to the last bit.

    Args:
        logits: Of the planned voxels of ``resampling.planned_window(window)``, (K, *S), floating,
            on any device.
        resampling: The two grids.
        window: Inside the native grid.

    Returns:
        (K, *window) in float32 on the same device.

    Raises:
        GridError: The logits are not of that window.
    """
    planned = resampling.planned_window(window)
    if tuple(logits.shape[1:]) != planned.shape:
        raise GridError(
            f"logits of shape {tuple(logits.shape[1:])} cannot be brought to {window.start}.."
            f"{window.stop}: it is made of {planned.start}..{planned.stop}, which "
            "Resampling.planned_window() gives"
        )
    result = logits.float()
    if resampling.is_identity:
        return result
    taps = resampling.logit_taps(window)
    for axis in changed_axes(resampling.planned.shape, resampling.native.shape):
        result = _along(result, axis + 1, taps[axis].relative_to(planned.start[axis]))
    return result


def _along(values: Tensor, axis: int, taps: Taps) -> Tensor:
    """Interpolate along one axis."""
    if values.device.type == "cpu":
        # In pieces that stay in the cache: several times faster than whole tensors.
        return torch.from_numpy(interpolate(values.detach().numpy(), axis, taps))
    return _gathered(values, axis, taps)


def _gathered(values: Tensor, axis: int, taps: Taps) -> Tensor:
    """Interpolate along one axis, on the tensor's own device.

    Products and sums are operations of their own: a fused one would round otherwise.
    """
    index = torch.from_numpy(taps.index).to(values.device)
    weight = torch.from_numpy(taps.weight).to(values.device, torch.float32)
    shape = (-1, *(1,) * (values.ndim - axis - 1))
    total = values.index_select(axis, index[:, 0])
    total *= weight[:, 0].view(shape)
    for t in range(1, index.shape[1]):
        term = values.index_select(axis, index[:, t])
        term *= weight[:, t].view(shape)
        total += term
    return total
