"""How a planned network is laid over volumes: halo from the network, tile from memory."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import build_model, halo, tiles_exactly, total_stride
from pipeline.errors import SettingsError
from pipeline.io.volume_store import VolumeStore
from pipeline.normalise import Scaling, normalise
from pipeline.plan_file import Plan
from pipeline.space import Shape, Window
from pipeline.tiled import Read, Tiling, choose_tile

# Bytes a forward pass holds for each voxel and feature of the first stage, measured as the rise
# of the process's peak over passes of 128³ and 2048² voxels, 16 and 32 features, on a CPU.
BYTES_PER_FEATURE = {"float32": 26, "bfloat16": 14, "float16": 14}


CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def voxel_reader(volume: VolumeStore, scalings: tuple[Scaling, ...]) -> Read:
    """Normalised voxels of a volume store, window by window: what a network is shown."""

    def read(window: Window) -> NDArray[np.float32]:
        return normalise(volume.read(window), scalings)

    return read


def memory_bytes() -> int:
    """Memory of this machine (or its container), or of its first GPU, in bytes."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return machine if limit == "max" else min(machine, int(limit))


def pass_bytes(plan: Plan, voxels: int, precision: str) -> int:
    """Bytes a forward pass over this many voxels is expected to hold.

    Args:
        plan: The plan, for its network.
        voxels: Voxels of the read window.
        precision: Number format of the network's arithmetic.
    """
    logits = 8 * len(plan.classes)  # in the autocast type, in float32, and the kept part
    return voxels * (plan.network.features[0] * BYTES_PER_FEATURE[precision] + logits)


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
    network = build_model(plan.network)
    stride = total_stride(network)
    if not tiles_exactly(network):
        return Tiling("gaussian", stride, (0,) * plan.ndim, plan.patch_shape)
    reach = halo(network)
    if tile is not None and len(tile) != plan.ndim:
        raise SettingsError(f"predict.tile {tile} has {len(tile)} axes, the plan {plan.ndim}")
    if tile is not None:
        rounded = tuple(-(-n // s) * s for n, s in zip(tile, stride, strict=True))
        return Tiling("exact", stride, reach, rounded)
    share = memory_bytes() // max(8, 3 * workers)
    budget = share if memory_gb is None else int(memory_gb * 2**30)
    voxels = budget // pass_bytes(plan, 1, precision)
    limit = largest or ((2048,) * 2 if plan.ndim == 2 else (512,) * 3)
    return Tiling(
        "exact", stride, reach, choose_tile(stride, reach, limit, max(voxels, prod(stride)))
    )
