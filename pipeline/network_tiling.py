"""How a planned network is laid over volumes: halo and stride from the network, tile from memory."""

from __future__ import annotations

import os
from math import prod

import torch

from models import build_model, halo, tiles_exactly, total_stride
from pipeline.plan_file import Plan
from pipeline.space import Shape
from pipeline.tiled import Tiling, choose_tile

# Bytes a forward pass holds for each voxel and feature of the first stage: the stage's input,
# output and skip in float32, and the coarser stages, which together hold less than the first.
BYTES_PER_FEATURE = 16


def memory_bytes() -> int:
    """Memory of this machine, or of its first GPU, in bytes."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def pass_bytes(plan: Plan, voxels: int) -> int:
    """Bytes a forward pass over this many voxels is expected to hold."""
    return voxels * (plan.network.features[0] * BYTES_PER_FEATURE + 8 * len(plan.classes))


def plan_tiling(
    plan: Plan, memory_gb: float | None = None, tile: Shape | None = None, largest: Shape | None = None
) -> Tiling:
    """Choose blend, halo and tile for a plan's network.

    Args:
        plan: The plan.
        memory_gb: What a forward pass may hold; None: an eighth of the machine's memory.
        tile: Tile size wished for, rounded up to the stride; None: as large as memory allows.
        largest: Largest volume to come; a tile never exceeds it.

    Returns:
        Exact tiles where the network allows them, else Gaussian ones of the training patch's size.
    """
    network = build_model(plan.network)
    stride = total_stride(network)
    if not tiles_exactly(network):
        return Tiling("gaussian", stride, (0,) * plan.ndim, plan.patch_shape)
    reach = halo(network)
    if tile is not None:
        rounded = tuple(-(-n // s) * s for n, s in zip(tile, stride, strict=True))
        return Tiling("exact", stride, reach, rounded)
    budget = memory_bytes() // 8 if memory_gb is None else int(memory_gb * 2**30)
    voxels = budget // pass_bytes(plan, 1)
    limit = largest or ((2048,) * 2 if plan.ndim == 2 else (512,) * 3)
    return Tiling("exact", stride, reach, choose_tile(stride, reach, limit, max(voxels, prod(stride))))
