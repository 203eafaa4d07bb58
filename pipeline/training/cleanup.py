"""What the validation cases teach of the components of a trained model's masks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.components import (
    BlockParts,
    Components,
    Learned,
    LearningCase,
    block_parts,
    grown_window,
    learn,
    merge,
)
from pipeline.execute import Progress
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import load_model
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase, mask_boxes, predict_case
from pipeline.processor import best_processor
from pipeline.space import Window
from pipeline.tiled import TiledNetwork
from pipeline.training.loop import TrainTask

LEARNER = 1
"""Raised when the same masks would teach something else."""
ReadLabels = Callable[[Window], NDArray[Any]]


def learn_cleanup(tasks: Sequence[TrainTask], progress: Progress) -> Learned:
    """Predict validation cases with the trained weights, and learn what to do to components.

    Of folds each network predicts the cases that it has not seen, and all of them teach.

    Args:
        tasks: The trainings, finished; a segmentation with a background.
        progress: Told of every case.
    """
    plan, cases = tasks[0].plan, list[LearningCase]()
    total = sum(len(task.validation) for task in tasks)
    for task in tasks:
        model, _ = load_model(task.checkpoints / "best.pt")
        processor = best_processor(plan.ndim, precision=task.settings.precision)
        placed = processor.place(model, plan.ndim)
        network = TiledNetwork(placed, task.tiling, processor, plan.decision, plan.mask_dtype)
        for path in task.validation:
            cases.append(_case(network, VolumeStore(path), plan, task.checkpoints))
            progress("train", len(cases), total, f"components of {path.stem}")
    return learn(cases, [c.name for c in plan.classes], plan.background)


def _case(network: TiledNetwork, store: VolumeStore, plan: Plan, scratch: Path) -> LearningCase:
    """A case's mask and truth in numbers; its mask is on disk meanwhile."""
    shape, no_label = store.grid.shape, int(plan.no_label)
    windows = mask_boxes(PlannedCase.of(store, plan), plan, network.tiling)
    case, truth = PlannedCase.of(store, plan), np.zeros(len(plan.classes), np.int64)
    with tempfile.TemporaryFile(dir=scratch) as file:
        mask = np.memmap(file, plan.mask_dtype, "w+", shape=shape)
        for window in windows:
            valid = store.read_valid(window)
            labels = predict_case(network, case, window, valid)
            labels[~valid] = no_label
            mask[window.slices] = labels
            told = store.read_truth(window)
            truth += np.bincount(told[told < len(truth)], minlength=len(truth))
        found = _components(lambda w: mask[w.slices], windows, store, plan, judged=True)
    known = _components(store.read_truth, windows, store, plan, judged=False)
    size = prod(store.grid.spacing)
    objects = {
        label: known.size[known.label == label] * size
        for label in range(len(plan.classes))
        if label != plan.background
    }
    return LearningCase(found, size, truth, objects)


def _components(
    read: ReadLabels, windows: Sequence[Window], store: VolumeStore, plan: Plan, *, judged: bool
) -> Components:
    """Components of labels, with their true classes where they are to be judged."""
    shape = store.grid.shape

    def blocks() -> Iterator[BlockParts]:
        for window in windows:
            yield block_parts(
                np.asarray(read(grown_window(window, shape))),
                window,
                shape,
                background=plan.background,
                no_label=int(plan.no_label),
                truth=store.read_truth(window) if judged else None,
                classes=len(plan.classes),
            )

    return merge(shape, blocks())
