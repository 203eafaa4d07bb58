"""Covers of an array by windows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from pipeline.errors import GridError
from pipeline.space.window import Shape, Window


@dataclass(frozen=True)
class HaloTile:
    """A tile at inference: what is read and what of it is written."""

    read: Window
    """Voxels the network sees. Starts on a multiple of the total stride; its size is one too,
    so it may reach past the array's end, where the network sees padding."""
    write: Window
    """Voxels whose labels are kept; inside the array and inside ``read``."""


def tile_windows(shape: Shape, tile: Shape, overlap: Shape) -> list[Window]:
    """Cover an array with tiles of one size.

    Neighbours share ``overlap`` voxels. The last tile on an axis moves back to end at the edge,
    so it may share more. Every voxel is in at least one tile.

    Args:
        shape: Array size in voxels, (Z, Y, X) or (Y, X).
        tile: Tile size in voxels, same axes.
        overlap: Voxels shared by neighbours, same axes; less than ``tile``.

    Returns:
        Windows of size ``tile``, last axis fastest.

    Raises:
        GridError: A tile is larger than the array, or an overlap is not less than its tile.

    Example:
        >>> [w.start for w in tile_windows((11,), tile=(4,), overlap=(1,))]
        [(0,), (3,), (6,), (7,)]
    """
    for size, n, shared in zip(shape, tile, overlap, strict=True):
        if not 0 <= shared < n <= size:
            raise GridError(
                f"tile {tile} with overlap {overlap} cannot cover {shape}: "
                "each axis needs 0 <= overlap < tile <= shape"
            )
    axes = [
        [*range(0, size - n, n - shared), size - n]
        for size, n, shared in zip(shape, tile, overlap, strict=True)
    ]
    return [Window(start, tuple(tile)) for start in product(*axes)]


def aligned_windows(shape: Shape, step: Shape) -> list[Window]:
    """Cut an array into boxes that start on multiples of ``step``; the last ones are smaller.

    Every voxel is in exactly one box. With ``step`` a store's shard these are its write windows.

    Args:
        shape: Array size in voxels.
        step: Box size in voxels, same axes, at least 1.

    Raises:
        GridError: A step is less than 1.

    Example:
        >>> [w.shape for w in aligned_windows((5,), (2,))]
        [(2,), (2,), (1,)]
    """
    if any(s < 1 for s in step):
        raise GridError(f"windows of {step} cannot cover {shape}: every size must be at least 1")
    starts = product(*[range(0, n, s) for n, s in zip(shape, step, strict=True)])
    return [Window(start, tuple(step)).clipped(shape) for start in starts]


def halo_tiles(
    write: Window, shape: Shape, tile: Shape, halo: Shape, stride: Shape
) -> list[HaloTile]:
    """Cut a write window into tiles that a network can run as if it saw the whole array.

    A read window is its write window grown by the halo, pushed outward to multiples of the total
    stride and clipped to the array, whose end is taken to be padded to a multiple of the stride.
    So the network meets the array's borders exactly where a whole-volume pass meets them.

    Args:
        write: The box to fill, inside the array.
        shape: Array size in voxels.
        tile: Largest write window, in voxels.
        halo: Voxels around an output that can change it (models.geometry.halo).
        stride: The network's total stride.

    Returns:
        Tiles whose write windows cut ``write`` without overlap, last axis fastest.
    """
    padded = tuple(-(-n // s) * s for n, s in zip(shape, stride, strict=True))
    tiles = []
    for box in aligned_windows(write.shape, tile):
        kept = box.shifted(write.start)
        grown = kept.grown(halo)
        start = tuple(max(0, a // s * s) for a, s in zip(grown.start, stride, strict=True))
        stop = tuple(
            min(p, -(-b // s) * s) for b, s, p in zip(grown.stop, stride, padded, strict=True)
        )
        tiles.append(HaloTile(Window.between(start, stop), kept))
    return tiles
