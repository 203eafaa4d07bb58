"""The weight map of Ronneberger et al. 2015, window by window of a volume store."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.losses import CrossEntropySettings, border_reach, border_weights, instances_of
from pipeline.io.planned_volume import PlannedVolume
from pipeline.plan_file import Plan
from pipeline.space import Window

WIDER = 4
"""Where nobody numbered the objects, parts of one that meet within so many reaches are one."""


def voxel_weights(case: PlannedVolume, window: Window, plan: Plan) -> NDArray[np.float32]:
    """Weight of each voxel of a window in the loss.

    Objects outside the window count as those inside do. They are the case's own instances, or
    else, where it has none or is resampled, the connected parts of what is not the first class,
    found in a wider window: parts that meet only far outside are taken for two objects.

    Args:
        case: The case, on the planned grid.
        window: Inside that grid.
        plan: Its loss has a border map.

    Returns:
        (*S) of the window's shape; at least the weight of the class, 0 where there is no label.
    """
    assert isinstance(plan.loss, CrossEntropySettings) and plan.loss.border is not None
    border, shape = plan.loss.border, case.shape
    numbered = case.store.has_instances and case.resampling.is_identity
    reach = ceil(border_reach(border.sigma)) * (1 if numbered else WIDER)
    around = window.grown((reach,) * len(shape)).clipped(shape)
    labels = case.read_truth(around)
    weights = border_weights(
        case.store.read_instances(around) if numbered else _parts(labels, plan),
        w0=border.w0,
        sigma=border.sigma,
        class_weights=plan.loss.class_weights or (1.0,) * len(plan.classes),
        labels=labels,
    )
    return weights[window.relative_to(around).slices]


def _parts(labels: NDArray[Any], plan: Plan) -> NDArray[np.int32]:
    return instances_of((labels != 0) & (labels != plan.no_label))
