"""Validation: whole held-out cases, by the code that predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.io.mask_store import mask_windows
from pipeline.io.volume_store import VolumeStore
from pipeline.metrics import class_counts, confusion, mean
from pipeline.network_tiling import voxel_reader
from pipeline.plan_file import Plan
from pipeline.tiled import Processor, Tiling, predict_labels
from pipeline.training.distributed import Ranks


def validate(
    model: nn.Module,
    stores: Sequence[Path],
    plan: Plan,
    tiling: Tiling,
    processor: Processor,
    ranks: Ranks,
) -> dict[str, Any]:
    """Predict cases whole and score them, shared among the processes.

    Returns:
        ``dice``: mean over classes of the mean over cases, None where no class occurs;
        ``classes``: mean over cases by class name.
    """
    classes = len(plan.classes)
    counts = torch.zeros(len(stores), classes, classes, dtype=torch.int64)
    for i in range(ranks.rank, len(stores), ranks.count):
        counts[i] = torch.from_numpy(_case(model, VolumeStore(stores[i]), plan, tiling, processor))
    counts = ranks.total(counts.to(ranks.device)).cpu()
    by_class: dict[str, float | None] = {}
    for label in plan.label_classes:
        if not label.background:
            scored = [class_counts(matrix.numpy())[label.label].dice for matrix in counts]
            by_class[label.name] = mean([dice for dice in scored if dice is not None])
    return {"dice": mean([d for d in by_class.values() if d is not None]), "classes": by_class}


def _case(
    model: nn.Module, store: VolumeStore, plan: Plan, tiling: Tiling, processor: Processor
) -> NDArray[np.int64]:
    """A case's confusion matrix, (K, K)."""
    scalings = plan.normalisation.scalings(store.statistics)
    shape = store.grid.shape
    total = np.zeros((len(plan.classes),) * 2, np.int64)

    read = voxel_reader(store, scalings)
    for window in mask_windows(shape, len(plan.classes)):
        labels = predict_labels(model, read, shape, window, tiling, processor)
        total += confusion(labels, store.read_truth(window), len(plan.classes))
    return total
