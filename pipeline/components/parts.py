"""Connected parts of one block's labels, and their local numbers.

Parts are numbered from 1: those of the smallest label first, then as scipy.ndimage.label finds
them. The same labels therefore always have the same numbers, and no one needs to store them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import GridError
from pipeline.space import Shape, Window

Box = tuple[slice, ...]


def grown_window(window: Window, shape: Shape) -> Window:
    """A block's box with one voxel more at its end on each axis, clipped to the volume.

    Any two voxels that touch, be it by a corner, are both in the grown box of some block.

    Args:
        window: The block, in voxels of the volume.
        shape: The volume's size in voxels, same axes.

    Raises:
        GridError: The block is empty or not inside the volume.

    Example:
        >>> grown_window(Window((0, 2), (2, 2)), (4, 4))
        Window(start=(0, 2), shape=(3, 2))
    """
    if not window.size or not Window.whole(shape).contains(window):
        raise GridError(
            f"a block at {window.start}..{window.stop} is empty or outside the volume of {shape}: "
            "cut blocks with aligned_windows()"
        )
    return window.grown((0,) * len(shape), (1,) * len(shape)).clipped(shape)


def expect_grown(labels: NDArray[Any], window: Window, shape: Shape) -> None:
    """Refuse labels that are not those of a block's grown window.

    Raises:
        GridError: The labels have another shape, or the block is not inside the volume.
    """
    expected = grown_window(window, shape).shape
    if labels.shape != expected:
        raise GridError(
            f"labels of {labels.shape} do not cover the block {window.start}..{window.stop} of a "
            f"volume of {shape}: read its grown_window(), {expected}"
        )


def label_boxes(labels: NDArray[Any], no_label: int) -> dict[int, Box]:
    """The labels that are present, ascending, each with a box that holds all its voxels."""
    whole = tuple(slice(0, n) for n in labels.shape)
    low, high = int(labels.min()), int(labels.max())
    if low == high:
        found: dict[int, Box] = {low: whole}
    else:
        # find_objects passes over label 0.
        found = {0: whole} if low == 0 else {}
        boxes = ndimage.find_objects(labels)
        found |= {i: box for i, box in enumerate(boxes, start=1) if box is not None}
    return {label: box for label, box in found.items() if label != no_label}


def label_parts(
    labels: NDArray[Any], label: int, background: int | None
) -> tuple[NDArray[np.int32], int]:
    """Number the connected parts of one label.

    The background is connected over faces alone, classes over edges and corners too: so what a
    class encloses is well defined (Rosenfeld 1970).

    Args:
        labels: Labels, (Z, Y, X) or (Y, X).
        label: The one looked at.
        background: Label of the background class; None: there is none.

    Returns:
        Part numbers from 1, 0 where another label is, same shape; and how many there are.
    """
    reach = 1 if label == background else labels.ndim
    structure = ndimage.generate_binary_structure(labels.ndim, reach)
    numbers = np.empty(labels.shape, np.int32)
    return numbers, int(ndimage.label(labels == label, structure, output=numbers))


def local_parts(
    labels: NDArray[Any], background: int | None, no_label: int
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Number the connected parts of all labels of a block.

    Args:
        labels: What the mask holds in the block's grown window, (Z, Y, X) or (Y, X).
        background: Label of the background class; None: there is none.
        no_label: Label of no data; it belongs to no part.

    Returns:
        Part numbers from 1, 0 where there is no data, same shape, not to be written to; and the
        label of each part, (n,), in the mask's type.
    """
    boxes = label_boxes(labels, no_label)
    if labels.min() == labels.max():
        return np.broadcast_to(np.int32(len(boxes)), labels.shape), np.array([*boxes], labels.dtype)
    parts = np.zeros(labels.shape, np.int32)
    held: list[int] = []
    for label, box in boxes.items():
        numbers, count = label_parts(labels[box], label, background)
        np.add(numbers, sum(held), out=parts[box], where=numbers > 0)
        held.append(count)
    return parts, np.repeat(np.array([*boxes], labels.dtype), held)
