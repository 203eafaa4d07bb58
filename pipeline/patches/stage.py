"""Volume stores → patch store, Dask-parallel, one task per shard of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.border_maps import voxel_weights
from pipeline.errors import ExecutionError, NothingUsableError
from pipeline.execute import ExecuteSettings, Progress, run_tasks, silent
from pipeline.io.files import digest
from pipeline.io.ledger import Ledger
from pipeline.io.manifest import ManifestRow, usable_cases
from pipeline.io.patch_store import (
    Patch,
    PatchSpec,
    create_patches,
    publish_patches,
    write_patches,
)
from pipeline.io.store import partial_key, published_key
from pipeline.io.volume_store import VolumeStore
from pipeline.patches.placement import Placement, class_cases, place_patches
from pipeline.patches.settings import PatchSettings
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase
from pipeline.space import Shape, Window
from pipeline.surroundings import read_mirrored, read_padded

STAGE = "patch"
VERSION = 3
"""Raised when the same volumes would give other patches."""
FLOAT16_MAX = 65504.0


@dataclass(frozen=True)
class PatchTask:
    """One shard of patches to cut."""

    final: Path
    """The patch store."""
    numbers: range
    """Patch numbers of the shard."""
    placements: tuple[Placement, ...]
    """Where each is cut."""
    plan: Plan
    """What labels and weights are for."""


def patch_shape_cut(plan: Plan, settings: PatchSettings) -> Shape:
    """Voxels of a stored patch: the network's, and so many around it that it can be turned."""
    return tuple(int(np.ceil(n * settings.margin / 2)) * 2 for n in plan.patch_shape)


def plan_patches(
    rows: Sequence[ManifestRow], volumes: Path, plan: Plan, settings: PatchSettings, final: Path
) -> tuple[PatchSpec, list[PatchTask]]:
    """Place every patch; reads the stores' attributes, and where there is data around patches.

    Returns:
        What the patch store will hold, and a task for each of its shards.

    Raises:
        NothingUsableError: No case has a voxel to learn from.
    """
    shape = patch_shape_cut(plan, settings)
    cases = class_cases(rows, volumes)
    placements = [
        p for row in rows for p in place_patches(row, volumes, plan, settings, shape, cases)
    ]
    if not placements:
        raise NothingUsableError(
            "no training case has a labelled voxel: there is nothing to learn; compare "
            "data.classes and data.ignore_values with the values of the masks, which "
            "`segflow check` lists"
        )
    key = digest(
        VERSION,
        plan.patch_key,
        settings.model_dump(mode="json"),
        [(row.id, row.key) for row in rows],
    )
    dtype, weighted = str(plan.mask_dtype), plan.border is not None
    spec = PatchSpec(len(placements), len(plan.channels), shape, dtype, weighted, key)
    tasks = [
        PatchTask(final, numbers, tuple(placements[numbers.start : numbers.stop]), plan)
        for numbers in spec.shards
    ]
    return spec, tasks


def cut_patches(task: PatchTask) -> dict[str, Any]:
    """Cut and write one shard of patches."""
    cases: dict[Path, PlannedCase] = {}
    patches = []
    for placement in task.placements:
        if placement.store not in cases:
            cases[placement.store] = PlannedCase.of(VolumeStore(placement.store), task.plan)
        patches.append(cut_patch(cases[placement.store], placement.window, task.plan))
    write_patches(task.final, task.numbers, patches)
    return {"patches": len(task.numbers)}


def cut_patch(case: PlannedCase, window: Window, plan: Plan) -> Patch:
    """One patch; outside the volume it has no label."""
    look = read_mirrored if any(plan.margin) else read_padded
    image = look(case.read, window, case.shape)
    inside = window.clipped(case.shape)
    label = np.full(window.shape, plan.no_label, plan.mask_dtype)
    truth = case.volume.read_truth(inside)
    if plan.target is not None:
        truth = (truth - plan.target.mean) / plan.target.std
    place = inside.relative_to(window).slices
    label[place] = truth
    weight = None
    if plan.border is not None:
        weight = np.zeros(window.shape, np.float16)
        weight[place] = voxel_weights(case.volume, inside, plan)
    return Patch(np.clip(image, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16), label, weight)


def patch(
    plan: Plan,
    settings: PatchSettings,
    execute: ExecuteSettings,
    *,
    manifest: Path,
    volumes: Path,
    final: Path,
    ledger: Path,
    progress: Progress = silent,
) -> str:
    """Make the patch store, or go on where an earlier try ended.

    Args:
        plan: Patch shape and normalisation.
        settings: How patches are placed.
        execute: Where tasks run.
        manifest: The cases.
        volumes: Folder of their stores.
        final: The patch store.
        ledger: Record of finished shards.
        progress: Told of every shard.

    Returns:
        The store's key.

    Raises:
        NothingUsableError: There is no training case, or none with a label.
        ExecutionError: Shards could not be cut; the finished ones are kept.
    """
    rows = usable_cases(manifest, ["train"], volumes)
    spec, tasks = plan_patches(rows, volumes, plan, settings, final)
    if published_key(final) == spec.key:
        progress(STAGE, len(tasks), len(tasks), "up to date")
        return spec.key
    record = Ledger(ledger)
    if partial_key(final) != spec.key:
        record.forget()
        create_patches(final, spec)
    todo = [t for t in tasks if record.done(str(t.numbers.start), spec.key) is None]
    failed = []
    for number, done in enumerate(run_tasks(cut_patches, todo, execute), start=1):
        if done.row is None:
            failed.append(str(done.error))
            continue
        record.record(str(done.task.numbers.start), spec.key, done.row)
        ready = len(tasks) - len(todo) + number
        progress(STAGE, ready, len(tasks), f"{spec.count} patches of {spec.shape}")
    if failed:
        raise ExecutionError(f"{len(failed)} of {len(tasks)} patch shards failed: {failed[0]}")
    cases = [p.case for t in tasks for p in t.placements]
    publish_patches(final, {"cases": cases, "shape": list(spec.shape), "plan": plan.patch_key})
    return spec.key
