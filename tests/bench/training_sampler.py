"""What feeds the network best: the patch store, or windows of the volume stores?

All take the same positions to the same patches, in one worker each; they differ in where the
voxels come from, and ``shards`` in the order of patches too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.io.manifest import usable_cases
from pipeline.io.patch_store import Patch, PatchSpec, PatchStore
from pipeline.io.volume_store import VolumeStore
from pipeline.patches import Placement, cut_patch, plan_patches
from pipeline.patches.stage import PatchTask
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase
from pipeline.training.dataset import PatchDataset, PositionSampler, batches
from pipeline.training.transforms import Augment
from tests.bench.sides import DROPPED, LEAST_ROUNDS
from tests.bench.training_run import BenchedRun

MIXED_SHARDS = 2
"""Shards held in memory at once, whose patches are mixed."""


class Windows:
    """Patches read straight from volume stores, all of them opened before the first is read."""

    def __init__(self, placements: list[Placement], plan: Plan) -> None:
        self._placements, self._plan = placements, plan

    @cached_property
    def _cases(self) -> dict[Path, PlannedCase]:
        paths = dict.fromkeys(p.store for p in self._placements)
        return {path: PlannedCase.of(VolumeStore(path), self._plan) for path in paths}

    def read(self, number: int) -> Patch:
        """A patch."""
        placement = self._placements[number]
        return cut_patch(self._cases[placement.store], placement.window, self._plan)


class Shards:
    """Patches of shards that are read whole; the latest few stay in memory."""

    def __init__(self, path: Path, per_shard: int) -> None:
        self._path, self._per_shard = path, per_shard
        self._held: OrderedDict[int, Patch] = OrderedDict()

    @cached_property
    def _store(self) -> PatchStore:
        return PatchStore(self._path)

    def read(self, number: int) -> Patch:
        """A patch."""
        shard, place = divmod(number, self._per_shard)
        if shard not in self._held:
            if len(self._held) == MIXED_SHARDS:
                self._held.popitem(last=False)
            numbers: Any = slice(shard * self._per_shard, (shard + 1) * self._per_shard)
            self._held[shard] = self._store.read(numbers)
        held = self._held[shard]
        weight = None if held.weight is None else held.weight[place]
        return Patch(held.image[place], held.label[place], weight)


class FedDataset(PatchDataset):
    """The training's dataset, its patches from elsewhere."""

    def __init__(self, path: Path, augment: Augment, seed: int, source: Any) -> None:
        super().__init__(path, augment, seed)
        self._store = source


class ShardwiseDataset(FedDataset):
    """The same, a few shards after the other: shards shuffled, and the patches of those held."""

    per_shard = 1

    def _number(self, position: int) -> int:
        turn, place = divmod(position, len(self))
        if self._order is None or self._order[0] != turn:
            random = np.random.default_rng([self._seed, turn])
            self._order = turn, shardwise_order(len(self), self.per_shard, random)
        return int(self._order[1][place])


def shardwise_order(count: int, per_shard: int, random: np.random.Generator) -> np.ndarray:
    """Patch numbers of a pass: shards in random order, so many at a time mixed."""
    shards = random.permutation(ceil(count / per_shard))
    numbers = [np.arange(s * per_shard, min((s + 1) * per_shard, count)) for s in shards]
    groups = [
        random.permutation(np.concatenate(numbers[first : first + MIXED_SHARDS]))
        for first in range(0, len(numbers), MIXED_SHARDS)
    ]
    return np.concatenate(groups)


def placements_of(run: BenchedRun) -> tuple[PatchSpec, list[PatchTask]]:
    """What the patch store holds, and where each of its patches was cut.

    Raises:
        StoreError: It was cut for another plan or from other cases.
    """
    rows = usable_cases(run.folder.manifest, ["train"], run.folder.volumes)
    settings, store = run.settings.patch, run.folder.patches
    spec, tasks = plan_patches(rows, run.folder.volumes, run.plan, settings, store)
    if PatchStore(store).key != spec.key:
        raise StoreError(f"{store} is not of these cases and settings: run `segflow patch` again")
    return spec, tasks


def datasets(run: BenchedRun) -> dict[str, PatchDataset]:
    """Every way to feed the network, with the run's augmentation and without."""
    spec, tasks = placements_of(run)
    placements = [p for task in tasks for p in task.placements]
    plan, settings, path = run.plan, run.settings.train, run.folder.patches
    plain = settings.model_copy(update={"augmentation": 0.0, "mirror": "none", "elastic": None})
    augments = {
        "augmented": Augment.planned(plan, settings),
        "plain": Augment.planned(plan, plain),
    }
    made: dict[str, PatchDataset] = {}
    for name, augment in augments.items():
        given = (path, augment, settings.seed)
        made[f"store_{name}"] = PatchDataset(*given)
        made[f"windows_{name}"] = FedDataset(*given, Windows(placements, plan))
        made[f"shards_{name}"] = ShardwiseDataset(*given, Shards(path, spec.per_shard))
        made[f"shards_{name}"].per_shard = spec.per_shard
    return made


def rate(feed: Iterator[Any], batch: int, block: int, seconds: float) -> float:
    """Patches per second over whole blocks, so that whole shards are read in each."""
    for _ in range(DROPPED):
        next(feed)
    begun, taken = time.perf_counter(), 0
    while taken == 0 or time.perf_counter() - begun < seconds:
        for _ in range(ceil(block / batch)):
            next(feed)
        taken += ceil(block / batch) * batch
    return taken / (time.perf_counter() - begun)


def sampler(run: BenchedRun, seconds: float) -> dict[str, Any]:
    """Patches per second of each way, in turns, and what the patch store takes on disk."""
    spec, _ = placements_of(run)
    size, block = run.plan.batch_size, min(spec.count, MIXED_SHARDS * spec.per_shard)
    feeds = {
        name: batches(dataset, PositionSampler(0, size, 0, 1), workers=1)
        for name, dataset in datasets(run).items()
    }
    share_s = seconds / (len(feeds) * LEAST_ROUNDS)
    found: dict[str, list[float]] = {name: [] for name in feeds}
    for turn in range(LEAST_ROUNDS):
        for name in list(feeds) if turn % 2 == 0 else reversed(feeds):
            found[name].append(rate(feeds[name], size, block, share_s))
    speeds = {name: median(rates) for name, rates in found.items()}
    patches, volumes = _bytes(run.folder.patches), _volume_bytes(run)
    return {
        "patches_per_s": {name: round(speed, 1) for name, speed in speeds.items()},
        "windows_against_store": {
            kind: round(speeds[f"windows_{kind}"] / speeds[f"store_{kind}"], 3)
            for kind in ("augmented", "plain")
        },
        "shards_against_store": {
            kind: round(speeds[f"shards_{kind}"] / speeds[f"store_{kind}"], 3)
            for kind in ("augmented", "plain")
        },
        "patches": spec.count,
        "patches_per_shard": spec.per_shard,
        "patch_store_bytes": patches,
        "training_volumes_bytes": volumes,
        "patch_store_against_volumes": round(patches / volumes, 2),
    }


def _volume_bytes(run: BenchedRun) -> int:
    rows = usable_cases(run.folder.manifest, ["train"], run.folder.volumes)
    return sum(_bytes(run.folder.volumes / row.store) for row in rows)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
