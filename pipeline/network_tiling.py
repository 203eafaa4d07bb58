"""How a planned network is laid over volumes: halo from the network, tile from memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Literal

import torch

from models import fitting_shape, halo, outline, tiles_exactly, total_stride
from models.memory import PassMemory, pass_memory
from pipeline.errors import SettingsError
from pipeline.io.layout import choose_layout
from pipeline.plan_file import Plan
from pipeline.space import Shape
from pipeline.tiled import TEST_SIDE, Tiling

BEYOND_TENSORS = 1.4
"""What a pass holds over what its tensors do, measured on a CPU as the rise of the process's peak:
1.0 to 1.36 for U-Nets and most others, to 1.69 for EfficientNets and 1.92 for densely connected
ones, whose many small tensors leave holes in the heap. The default budget leaves room for those."""

LARGEST = {2: (2048,) * 2, 3: (512,) * 3}
"""Of a volume, where nothing is known of those to come."""

BOX_VOXELS = 32 * 2**20
"""Most that is labelled before it is written, where neither a tile nor a shard is more."""

Blend = Literal["auto", "exact", "gaussian"]

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_bytes() -> int:
    """Memory of this machine (or its container), or of its first GPU, in bytes."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return machine_bytes()


def machine_bytes() -> int:
    """Memory of this machine, or its container, in bytes."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return machine if limit == "max" else min(machine, int(limit))


def pass_bytes(plan: Plan, tiling: Tiling, largest: Shape, precision: str) -> int:
    """Bytes a forward pass is expected to hold, at most.

    Args:
        plan: The plan, for its network.
        tiling: How it is laid over volumes.
        largest: Largest volume, in voxels of the planned grid.
        precision: Number format of the network's arithmetic.
    """
    memory = _pass_memory(plan, precision)
    if tiling.margin or tiling.blend == "gaussian":
        return memory.bytes(prod(tiling.shown(tiling.fitting(tiling.tile))))
    shown = _seen(tiling.tile, tiling.halo, tiling.fitting(largest))
    return memory.bytes(prod(shown), prod(_seen(tiling.tile, memory.rim, shown)))


def test_side(plan: Plan, tiling: Tiling, precision: str, limit: int) -> int:
    """Voxels on each axis of the part of a volume that one pass within a limit can label.

    Args:
        plan: The plan, for its network.
        tiling: How it is laid over volumes.
        precision: Number format of the network's arithmetic.
        limit: Bytes of a pass.

    Returns:
        At most ``TEST_SIDE``, and at least two strides.
    """
    memory, side = _pass_memory(plan, precision), TEST_SIDE[plan.ndim]
    least = 2 * max(tiling.stride)
    while side // 2 >= least:
        shown = tiling.shown(tiling.fitting((side,) * plan.ndim))
        if memory.bytes(prod(shown)) <= limit:
            break
        side //= 2
    return side


def _seen(tile: Shape, beyond: Shape, limit: Shape) -> Shape:
    """A tile and what lies around it, as far as there is something."""
    return tuple(min(t + 2 * b, n) for t, b, n in zip(tile, beyond, limit, strict=True))


def _pass_memory(plan: Plan, precision: str) -> PassMemory:
    tensors = pass_memory(plan.network, getattr(torch, precision))
    logits = 8 * plan.outputs  # in float32, and the kept part
    return PassMemory(
        int(tensors.fixed * BEYOND_TENSORS),
        tensors.per_voxel * BEYOND_TENSORS + logits,
        tensors.per_shown * BEYOND_TENSORS,
        tensors.per_kept * BEYOND_TENSORS,
        tensors.rim,
    )


def process_bytes() -> int:
    """Memory this process holds now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def plan_tiling(
    plan: Plan,
    precision: str,
    memory_gb: float | None = None,
    tile: Shape | None = None,
    largest: Shape | None = None,
    workers: int = 1,
    blend: Blend = "auto",
) -> Tiling:
    """Choose blend, halo and tile for a plan's network.

    Args:
        plan: The plan.
        precision: Number format of the network's arithmetic.
        memory_gb: What a forward pass may hold; None: an eighth of the machine's memory, or a
            third of a worker's share of it where that is less.
        tile: Tile size wished for, rounded up to the stride; None: as large as memory allows.
        largest: Largest volume to come; a tile never exceeds it.
        workers: Processes that predict at once on this machine.
        blend: Which tiles are wished for.

    Returns:
        Exact tiles where the network allows them, else Gaussian ones of the training patch's size.

    Raises:
        SettingsError: ``tile`` has other axes than the plan, exact tiles are asked of a network
            that has none, or no tile fits in the ``memory_gb`` that is set.
    """
    if tile is not None and len(tile) != plan.ndim:
        raise SettingsError(f"predict.tile {tile} has {len(tile)} axes, the plan {plan.ndim}")
    if blend == "exact" and not tiles_exactly(outline(plan.network)):
        raise SettingsError(
            "predict.blend is exact, but the network keeps statistics of all that it is shown, so "
            "that a tile never gives what the whole volume would: leave predict.blend at auto, or "
            "train with plan.norm batch"
        )
    if any(plan.margin):
        return _unpadded_tiling(plan, precision, memory_gb, tile, largest, workers, blend)
    network = outline(plan.network)
    stride = total_stride(network)
    memory, budget = _pass_memory(plan, precision), _budget(memory_gb, workers)
    patch = memory.bytes(prod(plan.patch_shape))
    blended = Tiling("gaussian", stride, (0,) * plan.ndim, plan.patch_shape)
    if blend == "gaussian" or not tiles_exactly(network):
        _refuse_small(memory_gb, patch)
        return blended
    reach = halo(network)
    limit = fitted(largest or LARGEST[plan.ndim], stride)
    # The way up is computed for what is kept, and its rim, where the network can.
    ways = 2 if memory.per_shown < memory.per_voxel else 0

    def needs(tile: Shape) -> Need:
        shown = _seen(tile, reach, limit)
        kept = prod(_seen(tile, memory.rim, shown))
        return Need(memory.bytes(prod(shown), kept), prod(shown) + ways * kept)

    if tile is not None:
        _refuse_small(memory_gb, needs(fitted(tile, stride)).bytes)
        return Tiling("exact", stride, reach, fitted(tile, stride))
    unit = choose_layout(limit, plan.mask_dtype).write
    chosen = choose_tile(limit, unit, stride, needs, budget)
    if chosen is None and memory_gb is None:  # no smaller than what it would be replaced by
        chosen = choose_tile(limit, unit, stride, needs, patch)
    if chosen is not None:
        return Tiling("exact", stride, reach, chosen)
    least = needs(stride).bytes
    if blend == "exact":
        raise SettingsError(
            f"predict.blend is exact, but the smallest exact tile needs {least / 2**30:.3g} GiB "
            f"and a pass may hold {budget / 2**30:.3g}: set predict.memory_gb to at least as much, "
            "or leave predict.blend at auto"
        )
    _refuse_small(memory_gb, min(least, patch))
    reason = (
        f"an exact tile needs {reach} voxels around it and {least / 2**30:.2g} GiB, and memory "
        f"holds {budget / 2**30:.2g}: tiles are blended"
    )
    return replace(blended, reason=reason)


def _refuse_small(memory_gb: float | None, least: int) -> None:
    """Refuse a limit that holds no tile.

    Raises:
        SettingsError: The smallest pass needs more.
    """
    if memory_gb is not None and least > memory_gb * 2**30:
        raise SettingsError(
            f"predict.memory_gb {memory_gb:g} holds no tile: the smallest pass that is left "
            f"needs {math.ceil(least / 2**30 * 1000) / 1000:g}; give at least as much, or null"
        )


def _budget(memory_gb: float | None, workers: int) -> int:
    """Bytes that a forward pass may hold."""
    share = memory_bytes() // max(8, 3 * workers)
    return share if memory_gb is None else int(memory_gb * 2**30)


def _unpadded_tiling(
    plan: Plan,
    precision: str,
    memory_gb: float | None,
    tile: Shape | None,
    largest: Shape | None,
    workers: int,
    blend: Blend,
) -> Tiling:
    """The same for a network whose output is smaller than what it is shown: it needs no halo."""
    network = outline(plan.network)
    stride, margin, none = total_stride(network), plan.margin, (0,) * plan.ndim
    smallest = fitting_shape(plan.network, (1,) * plan.ndim)
    least = tuple(n - 2 * m for n, m in zip(smallest, margin, strict=True))
    tiling = Tiling("exact", stride, none, least, margin, least)
    memory = _pass_memory(plan, precision)
    if blend == "gaussian" or not tiles_exactly(network):
        _refuse_small(memory_gb, memory.bytes(prod(plan.patch_shape)))
        patch = tuple(n - 2 * m for n, m in zip(plan.patch_shape, margin, strict=True))
        return replace(tiling, blend="gaussian", tile=patch)
    if tile is None:
        limit = fitted(largest or LARGEST[plan.ndim], stride)

        def needs(tile: Shape) -> Need:
            # The margin is shown whole, also where it lies outside the volume.
            shown = prod(tiling.shown(tiling.fitting(tile)))
            return Need(memory.bytes(shown), shown)

        unit = choose_layout(limit, plan.mask_dtype).write
        _refuse_small(memory_gb, needs(least).bytes)
        budget = _budget(memory_gb, workers)
        tile = choose_tile(limit, unit, stride, needs, budget) or least
    return replace(tiling, tile=fitted(tile, stride))


@dataclass(frozen=True)
class Need:
    """What a tile costs."""

    bytes: int
    """Memory of its pass."""
    work: int
    """Arithmetic of its pass, in any unit."""


def choose_tile(
    limit: Shape, unit: Shape, stride: Shape, needs: Callable[[Shape], Need], budget: int
) -> Shape | None:
    """The tile that labels a voxel with the least work and fits in memory.

    Args:
        limit: Largest volume, a multiple of the stride.
        unit: Box that is written at once: a tile is several, or a part of one.
        stride: The network's total stride.
        needs: What a pass over a tile needs.
        budget: Bytes of a pass.

    Returns:
        Tile size, multiples of the stride; None where nothing fits.
    """
    axes = [_sizes(n, u, s) for n, u, s in zip(limit, unit, stride, strict=True)]
    best: tuple[float, int, Shape] | None = None
    for tile in product(*axes):
        if prod(_boxed(tile, unit, limit)) > max(BOX_VOXELS, prod(unit), prod(tile)):
            continue
        need = needs(tile)
        rank = (need.work / prod(tile), need.bytes, tile)
        if need.bytes <= budget and (best is None or rank < best):
            best = rank
    return None if best is None else best[2]


def _boxed(tile: Shape, unit: Shape, limit: Shape) -> Shape:
    """The box of whole units that a tile is a part of."""
    return tuple(min(n, size) for n, size in zip(limit, fitted(tile, unit), strict=True))


def _sizes(limit: int, unit: int, stride: int) -> list[int]:
    """Sizes of a tile along an axis, in strides: multiples of what is written at once, or parts."""
    parts = {-(-unit // n) for n in range(1, -(-unit // stride) + 1)}
    sizes = {*range(unit, limit + unit, unit), *parts, stride}
    return sorted({min(limit, -(-n // stride) * stride) for n in sizes})


def fitted(shape: Shape, stride: Shape) -> Shape:
    """A shape grown to multiples of the stride."""
    return tuple(-(-n // s) * s for n, s in zip(shape, stride, strict=True))
