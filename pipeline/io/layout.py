"""Chunk and shard sizes, chosen from shape and dtype."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from pipeline.space import Shape

# One chunk is what a reader decodes at once: 64³ or 512², measured best on local disks for
# whole reads and random windows alike (smaller ones cost calls, larger ones waste decoding).
CHUNK_SIDE = {2: 512, 3: 64}
# From this many chunks on, files are counted in shards: object stores and backups suffer from
# many small files, while a small store is simplest without shards.
SHARD_FROM_CHUNKS = 64
SHARD_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Layout:
    """How an array is cut on disk."""

    chunks: Shape
    """Unit of reading."""
    shards: Shape | None
    """Unit of writing; None: every chunk is a file."""

    @property
    def write(self) -> Shape:
        """The box one writer owns: a shard, or a chunk where there are no shards."""
        return self.shards or self.chunks


def choose_layout(shape: Shape, dtype: DTypeLike, *, channels: bool = False) -> Layout:
    """Choose chunks and shards of an array.

    Args:
        shape: (Z, Y, X) or (Y, X), with C in front where ``channels`` is true.
        dtype: Element type; bounds the bytes of a chunk and of a shard.
        channels: Whether the first axis is the channel axis.

    Returns:
        A layout whose shards are whole multiples of its chunks and at most about 32 MiB.

    Example:
        >>> choose_layout((40, 60, 40), "uint8")
        Layout(chunks=(40, 60, 40), shards=None)
        >>> choose_layout((1024, 1024, 1024), "uint8")
        Layout(chunks=(64, 64, 64), shards=(256, 256, 512))
    """
    space = shape[1:] if channels else shape
    side = CHUNK_SIDE[len(space)]
    chunks = tuple(min(n, side) for n in space)
    itemsize = np.dtype(dtype).itemsize
    if channels:
        together = max(1, 4 * 2**20 // (prod(chunks) * itemsize))
        chunks = (min(shape[0], together), *chunks)
    counts = [-(-n // c) for n, c in zip(shape, chunks, strict=True)]
    if prod(counts) <= SHARD_FROM_CHUNKS:
        return Layout(chunks, None)
    return Layout(chunks, _grow_shard(chunks, counts, itemsize))


def _grow_shard(chunks: Shape, counts: list[int], itemsize: int) -> Shape:
    """Double the shortest axis of a shard, last axis first, until it is full or whole."""
    shard = list(chunks)
    whole = [c * n for c, n in zip(chunks, counts, strict=True)]
    while True:
        open_axes = [a for a in range(len(shard)) if shard[a] < whole[a]]
        if not open_axes or prod(shard) * itemsize * 2 > SHARD_BYTES:
            return tuple(shard)
        axis = min(open_axes, key=lambda a: (shard[a], -a))
        shard[axis] = min(shard[axis] * 2, whole[axis])


# What ingest holds of a case at once, in voxels of all its channels.
BOX_BYTES = 32 * 2**20
# Many bands make chunks of full size too heavy to hold: their sides halve down to these.
SMALLEST_SIDE = {2: 64, 3: 16}


@dataclass(frozen=True)
class Boxes:
    """How the arrays of a volume store are cut.

    All alike, so that one box of voxels fills whole files of image, validity and truth, and of
    the next coarser level.
    """

    shape: Shape
    """The volume, (Z, Y, X) or (Y, X)."""
    chunk: Shape
    """Unit of reading of the full-size level."""
    box: Shape
    """Unit of writing of the full-size level, whole chunks."""

    def coarser(self, factors: Shape) -> Boxes:
        """The boxes of the level whose voxels cover ``factors`` of this one's."""
        shape = tuple(-(-n // f) for n, f in zip(self.shape, factors, strict=True))
        box = tuple(-(-b // f) for b, f in zip(self.box, factors, strict=True))
        chunk = tuple(
            b if whole == c else c if b % c == 0 else c // 2
            for b, c, whole in zip(box, self.chunk, self.box, strict=True)
        )
        return Boxes(shape, chunk, box)

    def layout(self, channels: int | None, dtype: DTypeLike) -> Layout:
        """Layout of an array, with a leading channel axis where ``channels`` is given."""
        counts = [-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True)]
        sharded = prod(counts) > SHARD_FROM_CHUNKS and self.box != self.chunk
        if channels is None:
            return Layout(self.chunk, self.box if sharded else None)
        together = max(1, 4 * 2**20 // (prod(self.chunk) * np.dtype(dtype).itemsize))
        together = min(channels, together)
        groups = -(-channels // together)
        shard = (together * groups, *self.box) if sharded else None
        return Layout((together, *self.chunk), shard)


def volume_boxes(shape: Shape, voxel_bytes: int) -> Boxes:
    """Choose how a volume store is cut.

    A box grows within the plane first: files list voxels plane by plane, and a compressed stream
    can be read in no other order.

    Args:
        shape: The volume, (Z, Y, X) or (Y, X).
        voxel_bytes: Bytes of one voxel, all channels.

    Returns:
        Boxes of about 32 MiB at most, where one chunk of all channels is not more already.

    Example:
        >>> volume_boxes((1000, 1024, 1024), 2).box
        (64, 512, 512)
    """
    n = len(shape)
    side = CHUNK_SIDE[n]
    while voxel_bytes * side**n > 2 * BOX_BYTES and side > SMALLEST_SIDE[n]:
        side //= 2
    chunk = tuple(min(size, side) for size in shape)
    whole = [c * -(-size // c) for size, c in zip(shape, chunk, strict=True)]
    box = list(chunk)
    while prod(box) * voxel_bytes * 2 <= BOX_BYTES:
        plane = [a for a in (n - 1, n - 2) if box[a] < whole[a]]
        deep = [a for a in range(n - 2) if box[a] < whole[a]]
        if not plane + deep:
            break
        axis = min(plane, key=lambda a: (box[a], -a)) if plane else deep[0]
        box[axis] = min(box[axis] * 2, whole[axis])
    return Boxes(tuple(shape), chunk, tuple(box))
