"""The connected parts of one block of a mask, ready to be linked with those of its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.components.faces import Face, cut_faces
from pipeline.components.graph import unique_codes, unique_pairs
from pipeline.components.parts import expect_grown, local_parts
from pipeline.errors import GridError
from pipeline.space import Shape, Window

NOWHERE = np.iinfo(np.int64).max
"""``first`` of a part without a voxel of its own."""
SLAB_VOXELS = 1 << 22
"""Voxels counted at a time."""


@dataclass(frozen=True, eq=False)
class BlockParts:
    """A block's parts: row i is of the part whose number in the block is i + 1.

    Parts of the grown layer alone have rows too, of size 0: they tell what is connected there.
    """

    window: Window
    """The block."""
    shape: Shape
    """The volume's size in voxels."""
    background: int | None
    """Label of the background class; None: there is none."""
    label: NDArray[Any]
    """Label of each part, (n,), in the mask's type, ascending."""
    size: NDArray[np.int64]
    """Voxels of each part in the block itself, (n,)."""
    first: NDArray[np.int64]
    """Smallest C-order index in the volume of these voxels, (n,); NOWHERE of none."""
    outside: NDArray[np.bool_]
    """Whether a part has a voxel on the volume's border or beside one of no data, (n,)."""
    counts: NDArray[np.int64] | None
    """Voxels of each part by true class, (n, K), those of unknown truth left out; or None."""
    touching: NDArray[np.int64]
    """Rows of background parts and of the class parts they share a face with, unique, (m, 2)."""
    faces: tuple[Face, ...]
    """Part numbers where the block meets others."""


def block_parts(
    labels: NDArray[Any],
    window: Window,
    shape: Shape,
    *,
    background: int | None,
    no_label: int,
    truth: NDArray[Any] | None = None,
    classes: int,
) -> BlockParts:
    """Find the connected parts of a block.

    Args:
        labels: What the mask holds in ``grown_window(window, shape)``, unsigned.
        window: The block, inside the volume.
        shape: The volume's size in voxels, (Z, Y, X) or (Y, X).
        background: Label of the background class, connected over faces; None: there is none.
        no_label: Label of no data; it belongs to no part.
        truth: True labels of ``window``; those of ``classes`` and above are not counted.
        classes: Number of classes, K.

    Raises:
        GridError: Labels or truth have another shape than their window.
    """
    expect_grown(labels, window, shape)
    if truth is not None and truth.shape != window.shape:
        raise GridError(
            f"truth of {truth.shape} is not that of a block of {window.shape}: "
            "read the block's own window, not the grown one"
        )
    parts, label = local_parts(labels, background, no_label)
    own = parts[Window.whole(window.shape).slices]
    size, first, counts = _counted(own, len(label), truth, classes)
    outside, touching = _contacts(parts, labels, label, background, no_label)
    outside[_on_border(own, window, shape)] = True
    return BlockParts(
        window,
        shape,
        background,
        label,
        size[1:],
        _in_volume(first[1:], window, shape),
        outside[1:],
        None if counts is None else counts[1:],
        touching,
        tuple(cut_faces(parts, window, shape)),
    )


def _counted(
    own: NDArray[np.int32], parts: int, truth: NDArray[Any] | None, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64] | None]:
    """Sizes, first indices in the block and true classes by part number; number 0 is no part."""
    size = np.zeros(parts + 1, np.int64)
    first = np.full(parts + 1, NOWHERE)
    counts = None if truth is None else np.zeros((parts + 1, classes + 1), np.int64)
    for rows, offset in _slabs(own.shape):
        numbers = own[rows].ravel()
        codes: NDArray[Any] = numbers
        if truth is not None:
            told = np.minimum(truth[rows].ravel(), np.int64(classes))
            codes = numbers * np.int64(classes + 1) + told
        starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
        lengths = np.diff(starts, append=len(codes))
        np.add.at(size, numbers[starts], lengths)
        np.minimum.at(first, numbers[starts], starts + offset)
        if counts is not None:
            np.add.at(counts.reshape(-1), codes[starts], lengths)
    return size, first, None if counts is None else counts[:, :classes]


def _slabs(shape: Shape) -> Iterator[tuple[slice, int]]:
    """Ranges of the first axis and the C-order index each starts at."""
    plane = int(np.prod(shape[1:]))
    step = max(1, SLAB_VOXELS // plane)
    return ((slice(i, i + step), i * plane) for i in range(0, shape[0], step))


def _in_volume(first: NDArray[np.int64], window: Window, shape: Shape) -> NDArray[np.int64]:
    """C-order indices in a block as C-order indices in its volume."""
    held = first != NOWHERE
    places = np.unravel_index(first[held], window.shape)
    moved = tuple(place + a for place, a in zip(places, window.start, strict=True))
    told = np.full(len(first), NOWHERE)
    told[held] = np.ravel_multi_index(moved, shape)
    return told


def _contacts(
    parts: NDArray[np.int32],
    labels: NDArray[Any],
    label: NDArray[Any],
    background: int | None,
    no_label: int,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which part numbers touch no data, (n + 1,), and the rows that touch, (m, 2)."""
    outside = np.zeros(len(label) + 1, np.bool_)
    if labels.min() == labels.max():
        return outside, np.empty((0, 2), np.int64)
    kind = (labels == no_label).view(np.uint8)
    if background is not None:
        kind += 2 * (labels == background).view(np.uint8)
    stride = len(label) + 1
    codes = [unique_codes(_borders(parts, kind, axis, stride)) for axis in range(labels.ndim)]
    one, other = np.divmod(unique_codes(np.concatenate(codes)), stride)
    outside[one[other == 0]] = outside[other[one == 0]] = True
    pairs = np.stack([one, other], axis=1)[(one > 0) & (other > 0)] - 1
    turned = label[pairs[:, 0]] != background
    pairs[turned] = pairs[turned, ::-1]
    return outside, unique_pairs(pairs)


def _borders(
    parts: NDArray[np.int32], kind: NDArray[np.uint8], axis: int, stride: int
) -> NDArray[np.int64]:
    """Part numbers before (times ``stride``) and after each face between voxels of two kinds."""
    before = (slice(None),) * axis + (slice(None, -1),)
    after = (slice(None),) * axis + (slice(1, None),)
    differ = kind[before] != kind[after]
    codes: NDArray[np.int64] = parts[before][differ].astype(np.int64) * stride
    codes += parts[after][differ]
    return codes


def _on_border(own: NDArray[np.int32], window: Window, shape: Shape) -> NDArray[np.int32]:
    """Part numbers of voxels on the volume's border, 0 among them, with repeats."""
    sides = [np.zeros(1, np.int32)]
    for axis, n in enumerate(shape):
        if window.start[axis] == 0:
            sides.append(own.take(0, axis).ravel())
        if window.stop[axis] == n:
            sides.append(own.take(-1, axis).ravel())
    return np.concatenate(sides)
