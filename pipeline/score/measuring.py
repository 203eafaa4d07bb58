"""The kernel: a measure of a case, or a part of it, as JSON values that add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np

from pipeline.errors import CaseError
from pipeline.io.companion_store import Companion, ObjectStore
from pipeline.io.mask_store import MaskStore
from pipeline.io.readers.geo.lengths import metric_spacing
from pipeline.io.volume_store import VolumeStore
from pipeline.metrics import ErrorSums, confusion
from pipeline.score.calibration import confidence_counts, names_classes
from pipeline.score.membranes import membrane_counts
from pipeline.score.objects import object_counts
from pipeline.score.surfaces import surface_distances
from pipeline.score.tasks import Measure, ScoreTask, probabilities_of

Found = dict[str, Any]
"""What a measure gives: JSON values by name."""
VOXELS_IN_REACH = 32
"""How far surfaces of large volumes are measured, in a case's largest voxel sides."""


def measure(task: ScoreTask) -> Found:
    """Measure a case, or a part of it; memory of one window at a time.

    Raises:
        CaseError: The mask is not finite.
        StoreError: A store cannot be read.
    """
    return MEASURES[task.measure](task, MaskStore(task.mask), VolumeStore(task.volume))


def _voxels(task: ScoreTask, mask: MaskStore, volume: VolumeStore) -> Found:
    if task.wanted.names is None:
        return {"errors": _errors(task, mask, volume).to_list()}
    store, names = probabilities_of(task.mask), task.wanted.names
    kept = store if store is not None and names_classes(store, names) else None
    classes = task.wanted.classes
    matrix, given = np.zeros((classes, classes), np.int64), np.zeros((2, 256), np.int64)
    for window in task.windows(mask):
        made, truth = mask.read(window), volume.read_truth(window)
        matrix += confusion(made, truth, classes)
        if kept is not None:
            given += confidence_counts(made, truth, kept, window)
    counted = {"matrix": matrix.tolist()}
    return counted if kept is None else {**counted, "confidence": given.tolist()}


def _errors(task: ScoreTask, mask: MaskStore, volume: VolumeStore) -> ErrorSums:
    errors = ErrorSums()
    for window in task.windows(mask):
        errors += ErrorSums.of(mask.read(window), volume.read_truth(window))
    if not isfinite(errors.squared):
        raise CaseError(
            "its mask holds infinity.", "Train again, with smaller steps, and predict again."
        )
    return errors


def _surfaces(task: ScoreTask, mask: MaskStore, volume: VolumeStore) -> Found:
    wanted, spacing = task.wanted, metric_spacing(mask.grid)
    found = surface_distances(
        mask.read,
        volume.read_truth,
        mask.grid.shape,
        spacing,
        wanted.groups,
        wanted.classes,
        wanted.tolerance or max(spacing),
        wanted.reach or VOXELS_IN_REACH * max(spacing),
    )
    return {name: None if of is None else asdict(of) for name, of in found.items()}


def _objects(task: ScoreTask, mask: MaskStore, volume: VolumeStore) -> Found:
    kept = Companion.objects().path(task.mask)
    ours = ObjectStore(kept).read if kept.exists() else None
    theirs = volume.read_instances if volume.has_instances else None
    shape, windows, classes = mask.grid.shape, mask.windows(), task.wanted.classes
    counted = {
        name: object_counts(
            mask.read, volume.read_truth, shape, windows, labels, classes, ours, theirs
        )
        for name, labels in task.wanted.scored.items()
    }
    return {name: asdict(counts) for name, counts in counted.items()}


def _membranes(task: ScoreTask, mask: MaskStore, volume: VolumeStore) -> Found:
    cells, classes = task.wanted.cells or (), task.wanted.classes
    counts = membrane_counts(mask.read, volume.read_truth, mask.grid.shape, cells, classes)
    return asdict(counts)


MEASURES: Mapping[Measure, Callable[[ScoreTask, MaskStore, VolumeStore], Found]] = {
    "voxels": _voxels,
    "surfaces": _surfaces,
    "objects": _objects,
    "membranes": _membranes,
}


def added(parts: Sequence[Found]) -> Found:
    """What the parts of a measure give together; a single part is the whole."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: np.sum([np.asarray(part[name]) for part in parts], axis=0).tolist()
        for name in parts[0]
    }
