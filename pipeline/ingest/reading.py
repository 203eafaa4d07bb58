"""The order in which a case is read: once, in blocks its files like, in boxes its store writes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from pipeline.io.cases import OpenCase, Voxels
from pipeline.space import Shape, Window, aligned_windows, crop

READ_BYTES = 128 * 2**20
"""Most that a read may hold because the file's blocks are wider than the store's boxes."""


@dataclass(frozen=True)
class Read:
    """Voxels to read at once, and the boxes they fill."""

    window: Window
    """What is read."""
    boxes: tuple[Window, ...]
    """What is written of it; they cover the window."""


def plan_reads(shape: Shape, box: Shape, block: Shape, voxel_bytes: int) -> list[Read]:
    """Cover a volume with reads of whole boxes, so that blocks of the file are decoded once.

    Args:
        shape: The volume, (Z, Y, X) or (Y, X).
        box: What the store writes at once.
        block: What the file decodes at once.
        voxel_bytes: Bytes of a voxel, all channels.

    Returns:
        Reads in the order of the first axis, which a stream can follow.
    """
    size = _read_shape(shape, box, block, voxel_bytes)
    return [
        Read(window, tuple(w.shifted(window.start) for w in aligned_windows(window.shape, box)))
        for window in aligned_windows(shape, size)
    ]


def _read_shape(shape: Shape, box: Shape, block: Shape, voxel_bytes: int) -> Shape:
    """A box, widened on the axes where a block is wider, as far as memory allows."""
    size = [min(b, n) for b, n in zip(box, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        wider = min(shape[axis], -(-block[axis] // box[axis]) * box[axis])
        widened = [*size[:axis], wider, *size[axis + 1 :]]
        if wider > size[axis] and prod(widened) * voxel_bytes <= READ_BYTES:
            size = widened
    return tuple(s if s == n else b * -(-s // b) for s, n, b in zip(size, shape, box, strict=True))


def whole_planes(shape: Shape, box: Shape) -> Shape:
    """The block of a stream, for ``plan_reads``: all of a box's depth in every other axis."""
    return (box[0], *shape[1:])


def cut(voxels: Voxels, read: Window, box: Window) -> Voxels:
    """The part of a read that fills a box."""
    if read == box:
        return voxels
    inner = box.relative_to(read)
    truth = None if voxels.truth is None else voxels.truth[inner.slices]
    instances = None if voxels.instances is None else voxels.instances[inner.slices]
    return Voxels(crop(voxels.volume, inner), truth, instances)


def reads_of(case: OpenCase, box: Shape) -> list[Read]:
    """The reads of an open case."""
    grid = case.image.grid
    block = case.image.block
    if case.sequential:
        block = whole_planes(grid.shape, box)
    elif case.mask is not None:
        block = tuple(max(a, b) for a, b in zip(block, case.mask.block, strict=True))
    return plan_reads(grid.shape, box, block, case.voxel_bytes)
