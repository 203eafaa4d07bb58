"""Fill blocks of a volume with a value for each component."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.components.components import BlockValues
from pipeline.components.parts import expect_grown, label_boxes, label_parts
from pipeline.errors import GridError
from pipeline.space import Window


def apply(
    labels: NDArray[Any], block: BlockValues, *, no_label: int, fill: int | None = None
) -> NDArray[Any]:
    """Give each voxel of a block the value of its component.

    Only labels whose parts have different values are searched for parts again.

    Args:
        labels: What the mask holds in the block's grown window, as ``block_parts`` had it.
        block: The block and its values, of ``Components.values``.
        no_label: Label of no data.
        fill: What voxels of no data become; None: ``no_label``.

    Returns:
        Values in the block's own window, in the type of the values.

    Raises:
        GridError: The labels are of another window, or not those the components were found in.
    """
    expect_grown(labels, block.window, block.shape)
    values = _by_label(block)
    boxes = label_boxes(labels, no_label)
    if boxes.keys() != values.keys():
        raise _other_mask(block, f"labels {[*boxes]}, not {[*values]}")
    lookup = np.zeros(np.iinfo(labels.dtype).max + 1, block.value.dtype)
    lookup[no_label] = no_label if fill is None else fill
    lookup[[*values]] = [held[0] for held in values.values()]
    filled: NDArray[Any] = lookup[labels[Window.whole(block.window.shape).slices]]
    for label, held in values.items():
        if (held != held[0]).any():
            numbers, count = label_parts(labels[boxes[label]], label, block.background)
            if count != len(held):
                raise _other_mask(block, f"{count} parts of label {label}, not {len(held)}")
            target = filled[boxes[label]]
            inside = numbers[Window.whole(target.shape).slices]
            np.copyto(target, held.take(inside - 1), where=inside > 0)
    return filled


def _by_label(block: BlockValues) -> dict[int, NDArray[Any]]:
    """Values of the parts of each label."""
    present, starts = np.unique(block.label, return_index=True)
    return dict(zip(present.tolist(), np.split(block.value, starts)[1:], strict=True))


def _other_mask(block: BlockValues, met: str) -> GridError:
    return GridError(
        f"the block {block.window.start}..{block.window.stop} holds {met}: "
        "the mask has changed since its components were found; find them again"
    )
