"""Validation: whole held-out cases, by the code that predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Network
from pipeline.io.volume_store import VolumeStore
from pipeline.metrics import ErrorSums, class_counts, confusion, mean
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase, mask_boxes, predict_case
from pipeline.processor import Processor
from pipeline.tiled import TiledNetwork, Tiling
from pipeline.training.distributed import Ranks


def validate(
    model: Network,
    stores: Sequence[Path],
    plan: Plan,
    tiling: Tiling,
    processor: Processor,
    ranks: Ranks,
) -> dict[str, Any]:
    """Predict cases whole and score them, shared among the processes.

    Returns:
        ``score``, which is better the higher it is: of a segmentation the Dice, mean over classes
        of the mean over cases; of a regression R², mean over cases. None where it has no meaning.
        Beside it ``dice`` and ``classes``, by name, or ``r2`` and ``mae``.
    """
    found = []
    for i, path in enumerate(stores):
        mine = i % ranks.count == ranks.rank
        counted = _case(model, VolumeStore(path), plan, tiling, processor) if mine else None
        found.append(counted if counted is not None else _nothing(plan))
    counts = torch.from_numpy(np.array([*found, _nothing(plan)]))
    counts = ranks.total(counts.to(ranks.device)).cpu()[: len(stores)]
    return _errors(counts) if plan.target else _dice(counts, plan)


def _nothing(plan: Plan) -> NDArray[Any]:
    if plan.target:
        return np.zeros(5, np.float64)
    return np.zeros((len(plan.classes),) * 2, np.int64)


def _case(
    model: Network, store: VolumeStore, plan: Plan, tiling: Tiling, processor: Processor
) -> NDArray[Any]:
    """A case's confusion matrix, (K, K), or the sums of its errors, (5,)."""
    case, total = PlannedCase.of(store, plan), _nothing(plan)
    network = TiledNetwork(model, tiling, processor, plan.decision, plan.mask_dtype)
    for window in mask_boxes(case, plan, tiling):
        made = predict_case(network, case, window)
        truth = store.read_truth(window)
        if plan.target:
            total += np.array(ErrorSums.of(made, truth).to_list())
        else:
            total += confusion(made, truth, len(plan.classes))
    return total


def _dice(counts: Tensor, plan: Plan) -> dict[str, Any]:
    by_class: dict[str, float | None] = {}
    for label in plan.label_classes:
        if not label.background:
            scored = [class_counts(matrix.numpy())[label.label].dice for matrix in counts]
            by_class[label.name] = mean([dice for dice in scored if dice is not None])
    dice = mean([d for d in by_class.values() if d is not None])
    return {"score": dice, "dice": dice, "classes": by_class}


def _errors(counts: Tensor) -> dict[str, Any]:
    cases = [ErrorSums.from_list(row.tolist()) for row in counts]
    r2 = mean([case.r2 for case in cases if case.r2 is not None])
    return {"score": r2, "r2": r2, "mae": mean([c.mae for c in cases if c.mae is not None])}
