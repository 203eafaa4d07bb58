"""A network over a volume in tiles, exact or blended: serves validation and prediction.

Exact: a tile is read with a halo as wide as the network's view and only its inside is kept, so
the labels are those of one pass over the whole volume. Blended: for networks that keep statistics
of what they see, overlapping tiles are averaged with Gaussian weights. An unpadded network is
shown what it loses around each tile, mirrored at the volume's border, as Ronneberger et al. 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Decision, Network
from pipeline.space import (
    Shape,
    Window,
    gaussian_weights,
    halo_tiles,
    tile_windows,
)
from pipeline.surroundings import Read, read_mirrored, read_padded


@dataclass(frozen=True)
class Tiling:
    """How a network is laid over volumes."""

    blend: Literal["exact", "gaussian"]
    """Exact tiles with halo, or Gaussian averages of overlapping ones."""
    stride: Shape
    """The network's total stride."""
    halo: Shape
    """Voxels around an output that can change it, multiples of the stride; unused by blending."""
    tile: Shape
    """Largest box a pass fills (exact), or the size of every pass (gaussian)."""
    margin: Shape = ()
    """Voxels that an unpadded network's output lacks on each side; empty for a padded one."""
    least: Shape = ()
    """Smallest output of an unpadded network; others are larger by multiples of the stride."""
    reason: str = ""
    """Why tiles are blended, where the network would allow exact ones; it changes no voxel."""

    def to_json(self) -> dict[str, Any]:
        """The tiling as JSON values, for keys and provenance."""
        sizes = {"tile": list(self.tile), "halo": list(self.halo)}
        if self.margin:
            sizes["margin"] = list(self.margin)
        return {"blend": self.blend, **sizes}

    def fitting(self, shape: Shape) -> Shape:
        """The smallest box that a pass can fill and that is nowhere smaller than ``shape``."""
        least = self.least or (0,) * len(shape)
        return tuple(
            a + max(0, -(-(n - a) // s)) * s
            for n, a, s in zip(shape, least, self.stride, strict=True)
        )

    def pass_voxels(self, largest: Shape) -> int:
        """Voxels that the network is shown at once, at most, in volumes up to this shape."""
        if self.margin or self.blend == "gaussian":
            return prod(self.shown(self.fitting(self.tile)))
        return read_voxels(self.tile, self.halo, self.fitting(largest))

    def shown(self, shape: Shape) -> Shape:
        """What the network is shown to fill a box of this shape."""
        margin = self.margin or (0,) * len(shape)
        return tuple(n + 2 * m for n, m in zip(shape, margin, strict=True))


@dataclass(frozen=True)
class Processor:
    """Where and in which number format a network runs."""

    device: str
    """``cpu``, ``cuda`` or ``cuda:1``."""
    precision: Literal["float32", "bfloat16", "float16"]
    """Autocast type; float32 means none."""
    channels_last: bool
    """Whether tensors keep their channels innermost."""

    def place(self, model: Network, ndim: int) -> Network:
        """The network in evaluation mode, on the device, in the memory format."""
        placed: Network = model.to(self.device)
        return placed.to(memory_format=self._format(ndim)).eval()  # type: ignore[call-overload,no-any-return]

    def tensor(self, batch: NDArray[Any] | Tensor) -> Tensor:
        """A batch, (B, C, *S), on the device, in the memory format."""
        tensor = torch.as_tensor(batch)
        moved = tensor.to(self.device, non_blocking=True)
        return moved.contiguous(memory_format=self._format(tensor.ndim - 2))

    def autocast(self) -> torch.autocast:
        """The context in which the network runs."""
        kind = getattr(torch, self.precision)
        enabled = self.precision != "float32"
        return torch.autocast(torch.device(self.device).type, kind, enabled=enabled)

    def _format(self, ndim: int) -> torch.memory_format:
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if ndim == 2 else torch.channels_last_3d


def best_processor(ndim: int, device: str = "auto", precision: str = "auto") -> Processor:
    """The processor settings this machine gains from.

    On CPUs with bfloat16 instructions a 3-D step in bfloat16 and channels-last takes a quarter
    of the time; without them autocast only costs, and without channels-last the convolutions
    fall back to a slow path.

    Args:
        ndim: Spatial axes of the network.
        device: ``auto``, or a device.
        precision: ``auto``, or an autocast type.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        gains = torch.cuda.is_bf16_supported() if device != "cpu" else cpu_has_bfloat16()
        precision = "bfloat16" if gains else "float32"
    return Processor(device, precision, channels_last=True)  # type: ignore[arg-type]


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    capable = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capable.get("avx512_bf16") or capable.get("amx_bf16"))


def forward(
    model: Network, batch: NDArray[np.float32], processor: Processor, box: Window | None = None
) -> Tensor:
    """One pass without gradients.

    Args:
        model: Placed by ``processor``.
        batch: (B, C, *S), sizes multiples of the total stride.
        processor: Where it runs.
        box: Of the output, what is wanted, and as far as the network can all that is computed;
            None: all.

    Returns:
        Logits, (B, K, *S) or (B, K, *box), float32, on the device.
    """
    images = processor.tensor(batch)
    with torch.inference_mode(), processor.autocast():
        if box is None:
            logits: Tensor = model(images)
        else:
            logits = model.inside(images, tuple(zip(box.start, box.stop, strict=True)))
    return logits.float()


def predict_window(
    model: Network,
    read: Read,
    shape: Shape,
    write: Window,
    tiling: Tiling,
    processor: Processor,
    decide: Callable[[Tensor], Tensor],
) -> NDArray[Any]:
    """What a mask holds in a box of a volume; neighbours of the box are read as needed.

    Args:
        model: Placed by ``processor``.
        read: Gives normalised voxels; only ever asked for windows inside the volume.
        shape: The volume's spatial shape.
        write: The box to fill, inside the volume.
        tiling: How the network is laid over it.
        processor: Where it runs.
        decide: Makes class numbers or values of logits, (K, *S) → (*S); or leaves them.

    Returns:
        What was decided, of the box's shape, after the axis of classes if there still is one.
    """
    if tiling.blend == "gaussian":
        return _blended(model, read, shape, write, tiling, processor, decide)
    result: NDArray[Any] | None = None
    # An unpadded network reads its surroundings itself: its tiles need no halo.
    halo = (0,) * len(shape) if tiling.margin else tiling.halo
    for tile in halo_tiles(write, shape, tiling.tile, halo, tiling.stride):
        voxels = _shown(read, shape, tile.read, tiling)
        logits = forward(model, voxels[None], processor, tile.write.relative_to(tile.read))[0]
        kept = decide(logits).cpu().numpy()
        if result is None:
            result = np.empty((*kept.shape[: -len(shape)], *write.shape), kept.dtype)
        place = tile.write.relative_to(write).slices
        result[(..., *place)] = kept  # type: ignore[index]
    assert result is not None
    return result


def _shown(read: Read, shape: Shape, window: Window, tiling: Tiling) -> NDArray[np.float32]:
    """What the network is shown to fill a window, which starts on a multiple of the stride.

    Its output may go on beyond the window's end.

    Returns:
        (C, *S).
    """
    filled = Window(window.start, tiling.fitting(window.shape))
    if tiling.margin:
        return read_mirrored(read, filled.grown(tiling.margin), shape)
    return read_padded(read, filled, shape)


def _blended(
    model: Network,
    read: Read,
    shape: Shape,
    write: Window,
    tiling: Tiling,
    processor: Processor,
    decide: Callable[[Tensor], Tensor],
) -> NDArray[Any]:
    """What follows from averaged logits of overlapping tiles.

    The tiles are those of the whole volume, whatever box is asked for, and are added in one
    order, so that any partition of the volume gives the same result.
    """
    padded = tuple(max(n, t) for n, t in zip(shape, tiling.tile, strict=True))
    half = tuple(t // 2 for t in tiling.tile)
    weights = torch.as_tensor(np.array(gaussian_weights(tiling.tile)), device=processor.device)
    total: Tensor | None = None
    for window in tile_windows(padded, tiling.tile, half):
        shared = window.intersection(write)
        if shared.size == 0:
            continue
        logits = forward(model, _shown(read, shape, window, tiling)[None], processor)[0]
        inside = shared.relative_to(window).slices
        if total is None:
            total = logits.new_zeros((len(logits), *write.shape))
            divisor = logits.new_zeros(write.shape)
        place = shared.relative_to(write).slices
        total[(slice(None), *place)] += (logits * weights)[(slice(None), *inside)]
        divisor[place] += weights[inside]
    assert total is not None
    return decide(total / divisor).cpu().numpy()


def choose_tile(stride: Shape, halo: Shape, largest: Shape, voxels: int) -> Shape:
    """The largest tile whose read window stays within a number of voxels.

    A larger tile reads its halo less often. Grown evenly, in strides, up to the largest volume.

    Args:
        stride: The network's total stride.
        halo: Voxels around an output that can change it.
        largest: Largest volume, in voxels; a tile never needs to exceed it.
        voxels: Voxels the network may see at once.

    Returns:
        Tile size, multiples of the stride; one stride where even that exceeds the budget.
    """
    tile = list(stride)
    limit = [-(-n // s) * s for n, s in zip(largest, stride, strict=True)]
    grown = True
    while grown:
        grown = False
        for axis in sorted(range(len(tile)), key=lambda a: tile[a]):
            if tile[axis] >= limit[axis]:
                continue
            larger = [t + stride[axis] * (a == axis) for a, t in enumerate(tile)]
            if read_voxels(larger, halo, limit) <= voxels:
                tile, grown = larger, True
    return tuple(tile)


def read_voxels(tile: Sequence[int], halo: Shape, limit: Sequence[int]) -> int:
    """Voxels of the largest read window of a tile: halo on both sides, but not past the volume."""
    return prod(min(t + 2 * h, n) for t, h, n in zip(tile, halo, limit, strict=True))


TEST_SIDE = {2: 1024, 3: 192}


def seam_mismatch(
    model: Network,
    read: Read,
    shape: Shape,
    tiling: Tiling,
    processor: Processor,
    decide: Decision,
) -> dict[str, int]:
    """Compare tiles with one whole pass, on real voxels.

    The volume (or its first part, where it is large) is labelled twice: at once, and by tiles
    half as large on every axis that has room for two.

    Returns:
        ``voxels`` compared and ``different`` labels among them.
    """
    side = TEST_SIDE[len(shape)]
    size = tuple(min(n, side) for n in shape)
    padded = tuple(-(-n // s) * s for n, s in zip(size, tiling.stride, strict=True))
    half = tuple(max(s, n // 2 // s * s) for n, s in zip(padded, tiling.stride, strict=True))
    once = replace(tiling, blend="exact", tile=padded)
    parts = tiling if tiling.blend == "gaussian" else replace(tiling, tile=half)
    box = Window.whole(size)
    first = predict_window(model, read, size, box, once, processor, decide)
    second = predict_window(model, read, size, box, parts, processor, decide)
    apart = first != second
    if decide.kind == "linear":
        # Of values, what is no more than rounding in the network's own number format.
        apart = np.abs(first - second) > 0.01 * decide.std
    return {"voxels": box.size, "different": int(np.count_nonzero(apart))}
