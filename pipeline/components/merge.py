"""The components of a volume from the parts of its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.components.blocks import NOWHERE, BlockParts
from pipeline.components.components import Components
from pipeline.components.graph import joined, unique_pairs
from pipeline.components.linking import Linker
from pipeline.errors import GridError
from pipeline.space import Shape


def merge(shape: Shape, blocks: Iterable[BlockParts]) -> Components:
    """Link the parts of all blocks of a volume.

    Any partition into blocks gives the same components with the same numbers.

    Args:
        shape: The volume's size in voxels, (Z, Y, X) or (Y, X).
        blocks: Its blocks, in any order; each is taken once, its faces dropped as soon as the
            blocks beside it have come.

    Raises:
        GridError: The blocks do not fill the volume, or are not all of one mask.
    """
    linker, rows, nodes = Linker(), list[BlockParts](), 0
    for block in blocks:
        linker.add(block.faces, nodes)
        rows.append(replace(block, faces=()))
        nodes += len(block.label)
    _expect_partition(shape, rows)
    first = np.concatenate([block.first for block in rows])
    component = _numbered(joined(nodes, linker.links), first)
    return _components(shape, rows, component, first)


def _expect_partition(shape: Shape, blocks: Sequence[BlockParts]) -> None:
    covered = sum(window.size for window in {block.window for block in blocks})
    if covered != math.prod(shape) or not blocks:
        raise GridError(
            f"{len(blocks)} blocks hold {covered} voxels of a volume of {shape}: "
            "each voxel must be in exactly one block"
        )
    masks = {(block.shape, block.background, block.counts is None) for block in blocks}
    if masks != {(shape, blocks[0].background, blocks[0].counts is None)}:
        raise GridError(
            f"blocks of (shape, background, without truth) {sorted(masks, key=str)} are not of "
            f"one mask of {shape}: cut all blocks with the same arguments"
        )


def _numbered(group: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number groups of parts by their smallest ``first``."""
    groups = int(group.max(initial=-1)) + 1
    lowest = np.full(groups, NOWHERE)
    np.minimum.at(lowest, group, first)
    if (lowest == NOWHERE).any():
        raise GridError(
            "a block's grown layer holds parts that no block owns: "
            "each voxel must be in exactly one block"
        )
    rank = np.empty(groups, np.int64)
    rank[np.argsort(lowest)] = np.arange(groups)
    return rank[group]


def _components(
    shape: Shape,
    blocks: Sequence[BlockParts],
    component: NDArray[np.int64],
    first: NDArray[np.int64],
) -> Components:
    total = int(component.max(initial=-1)) + 1
    label = np.zeros(total, blocks[0].label.dtype)
    label[component] = np.concatenate([block.label for block in blocks])
    size, lowest = np.zeros(total, np.int64), np.full(total, NOWHERE)
    np.add.at(size, component, np.concatenate([block.size for block in blocks]))
    np.minimum.at(lowest, component, first)
    outside = np.zeros(total, np.bool_)
    outside[component[np.concatenate([block.outside for block in blocks])]] = True
    ends = np.cumsum([len(block.label) for block in blocks])
    numbers = np.split(component, ends[:-1])
    return Components(
        shape,
        blocks[0].background,
        label,
        size,
        lowest,
        outside,
        _summed(blocks, numbers, total),
        _touching(blocks, numbers),
        {block.window: held for block, held in zip(blocks, numbers, strict=True)},
    )


def _summed(
    blocks: Sequence[BlockParts], numbers: Sequence[NDArray[np.int64]], total: int
) -> NDArray[np.int64] | None:
    """True classes of each component, (total, K); None without truth."""
    told = [block.counts for block in blocks if block.counts is not None]
    if not told:
        return None
    counts = np.zeros((total, told[0].shape[1]), np.int64)
    for held, rows in zip(numbers, told, strict=True):
        np.add.at(counts, held, rows)
    return counts


def _touching(
    blocks: Sequence[BlockParts], numbers: Sequence[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Components of the background and of classes that share a face, unique, (m, 2)."""
    pairs = [held[block.touching] for block, held in zip(blocks, numbers, strict=True)]
    return unique_pairs(np.concatenate(pairs))
