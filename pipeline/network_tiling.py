"""How a planned network is laid over volumes: halo from the network, tile from memory."""

from __future__ import annotations

import os
from dataclasses import replace
from math import prod
from pathlib import Path

import torch

from models import fitting_shape, halo, outline, tiles_exactly, total_stride
from models.memory import PassMemory, pass_memory
from pipeline.errors import SettingsError
from pipeline.plan_file import Plan
from pipeline.space import Shape
from pipeline.tiled import Tiling, choose_tile

BEYOND_TENSORS = 1.4
"""What a pass holds over what its tensors do, measured on a CPU as the rise of the process's peak:
1.0 to 1.36 for U-Nets and most others, to 1.69 for EfficientNets and 1.92 for densely connected
ones, whose many small tensors leave holes in the heap. The default budget leaves room for those."""

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


def pass_bytes(plan: Plan, voxels: int, precision: str) -> int:
    """Bytes a forward pass over this many voxels is expected to hold, at most.

    Args:
        plan: The plan, for its network.
        voxels: Voxels of the read window.
        precision: Number format of the network's arithmetic.
    """
    return _pass_memory(plan, precision).bytes(voxels)


def _pass_memory(plan: Plan, precision: str) -> PassMemory:
    tensors = pass_memory(plan.network, getattr(torch, precision))
    logits = 8 * plan.outputs  # in float32, and the kept part
    return PassMemory(
        int(tensors.fixed * BEYOND_TENSORS), tensors.per_voxel * BEYOND_TENSORS + logits
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

    Returns:
        Exact tiles where the network allows them, else Gaussian ones of the training patch's size.
    """
    if any(plan.margin):
        return _unpadded_tiling(plan, precision, memory_gb, tile, largest, workers)
    network = outline(plan.network)
    stride = total_stride(network)
    if not tiles_exactly(network):
        return Tiling("gaussian", stride, (0,) * plan.ndim, plan.patch_shape)
    reach = halo(network)
    if tile is not None and len(tile) != plan.ndim:
        raise SettingsError(f"predict.tile {tile} has {len(tile)} axes, the plan {plan.ndim}")
    if tile is not None:
        rounded = tuple(-(-n // s) * s for n, s in zip(tile, stride, strict=True))
        return Tiling("exact", stride, reach, rounded)
    voxels = _pass_memory(plan, precision).voxels(_budget(memory_gb, workers))
    limit = largest or ((2048,) * 2 if plan.ndim == 2 else (512,) * 3)
    exact = Tiling("exact", stride, reach, choose_tile(stride, reach, limit, voxels))
    if exact.pass_voxels(limit) <= max(voxels, prod(plan.patch_shape)):
        return exact
    reason = (
        f"an exact tile needs {reach} voxels around it, {exact.pass_voxels(limit)} in all, and "
        f"memory holds {voxels}: tiles are blended"
    )
    return Tiling("gaussian", stride, (0,) * plan.ndim, plan.patch_shape, reason=reason)


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
) -> Tiling:
    """The same for a network whose output is smaller than what it is shown: it needs no halo."""
    network = outline(plan.network)
    stride, margin, none = total_stride(network), plan.margin, (0,) * plan.ndim
    smallest = fitting_shape(plan.network, (1,) * plan.ndim)
    least = tuple(n - 2 * m for n, m in zip(smallest, margin, strict=True))
    tiling = Tiling("exact", stride, none, least, margin, least)
    if not tiles_exactly(network):
        patch = tuple(n - 2 * m for n, m in zip(plan.patch_shape, margin, strict=True))
        return replace(tiling, blend="gaussian", tile=patch)
    if tile is None:
        voxels = _pass_memory(plan, precision).voxels(_budget(memory_gb, workers))
        limit = largest or ((2048,) * 2 if plan.ndim == 2 else (512,) * 3)
        # The margin is shown whole, also where it lies outside the volume.
        shown = tuple(n + 2 * m for n, m in zip(limit, margin, strict=True))
        tile = choose_tile(stride, margin, shown, voxels)
        tile = tuple(min(t, -(-n // s) * s) for t, n, s in zip(tile, limit, stride, strict=True))
    return replace(tiling, tile=tuple(-(-n // s) * s for n, s in zip(tile, stride, strict=True)))
