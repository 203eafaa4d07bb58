"""Surface distances of all objects of a case, in memory that the volume's size does not change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.score.surfaces.blocks import by_block
from pipeline.score.surfaces.counted import Counted
from pipeline.score.surfaces.figures import SurfaceDistances
from pipeline.score.surfaces.nearest import distances
from pipeline.score.surfaces.voxels import SIDES, Groups, Pair, Places, Reader, surfaces
from pipeline.space import Shape, Window

HELD = 2**22
"""Surface voxels of one object, of mask and truth together, that are held at once: 32 MB, and
about 300 MB while their distances are looked up."""
Flat = tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]
"""C-order indices in the volume, of mask and truth, box by box."""


def surface_distances(
    mask: Reader,
    truth: Reader,
    shape: Shape,
    spacing: Sequence[float],
    groups: Groups,
    classes: int,
    tolerance: float,
    reach: float,
    block: Shape | None = None,
    held: int = HELD,
) -> dict[str, SurfaceDistances | None]:
    """How far apart the surfaces of objects lie in a mask and its truth.

    Every object whose surfaces have up to ``held`` voxels is measured exactly, however large the
    volume: the boxes are read once. Larger ones are measured block by block, with what lies up to
    ``reach`` around: distances up to it are exact, those beyond count as it and are told.

    Args:
        mask: Reader of predicted labels; those of ``classes`` and above are no data.
        truth: Reader of true labels; those of ``classes`` and above are not scored.
        shape: The volume's size in voxels, (Z, Y, X) or (Y, X).
        spacing: Voxel size on each axis, in the unit that distances shall have.
        groups: By name the labels whose union is one object.
        classes: Number of classes, K.
        tolerance: Distance up to which a surface voxel is in its place.
        reach: How far to look from surfaces too large to be held; at least the tolerance is.
        block: What is read at a time, in voxels; None: boxes of 2²⁴ voxels.
        held: Surface voxels of one object that are held at once.

    Returns:
        By name the figures; None of an object of which neither has a surface.
    """
    pair = Pair(mask, truth, tuple(shape), classes)
    block = block or (SIDES[len(shape)],) * len(shape)
    found = _held(pair, groups, block, held)
    large = {name: groups[name] for name, flat in found.items() if flat is None}
    told: dict[str, SurfaceDistances | None] = dict.fromkeys(groups)
    for name in groups:
        flat = found.pop(name)
        if flat is not None:
            ours, theirs = (_places(side, pair.shape) for side in flat)
            told[name] = _exact(ours, theirs, spacing, tolerance)
    return told | by_block(pair, spacing, large, tolerance, max(reach, tolerance), block)


def _held(pair: Pair, groups: Groups, block: Shape, held: int) -> dict[str, Flat | None]:
    """Surfaces of each object; None of those too large to be held."""
    found: dict[str, Flat | None] = {name: ([], []) for name in groups}
    size = dict.fromkeys(groups, 0)
    for box in surfaces(pair, Window.whole(pair.shape), groups, block):
        for name, sides in box.items():
            size[name] += sum(map(len, sides))
            flat = found[name]
            if size[name] > held or flat is None:
                found[name] = None
                continue
            for kept, places in zip(flat, sides, strict=True):
                kept.append(np.ravel_multi_index(tuple(places.T), pair.shape))
    return found


def _places(flat: list[NDArray[np.int64]], shape: Shape) -> Places:
    return np.stack(np.unravel_index(np.concatenate(flat), shape), axis=1)


def _exact(
    ours: Places, theirs: Places, spacing: Sequence[float], tolerance: float
) -> SurfaceDistances | None:
    if not len(ours) and not len(theirs):
        return None
    to_truth = Counted.of(distances(ours, theirs, spacing))
    to_mask = Counted.of(distances(theirs, ours, spacing))
    return SurfaceDistances.of(to_truth, to_mask, tolerance)
