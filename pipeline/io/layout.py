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
