"""Surface distances block by block, of surfaces that are too large to be held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.score.surfaces.counted import Counted
from pipeline.score.surfaces.figures import ROUNDING, SurfaceDistances
from pipeline.score.surfaces.nearest import distances
from pipeline.score.surfaces.voxels import Groups, Pair, Places, surfaces
from pipeline.space import Shape, Window, aligned_windows

FIRST = 1 / 8
"""Share of the reach that the first look around a block goes: most surfaces are nearer."""
Side = tuple[str, int]
"""An object, and whose surface of it: 0 the mask's, 1 the truth's."""


def by_block(
    pair: Pair,
    spacing: Sequence[float],
    groups: Groups,
    tolerance: float,
    reach: float,
    block: Shape,
) -> dict[str, SurfaceDistances]:
    """Measure surfaces with what lies up to a distance around each block.

    Args:
        pair: Mask and truth.
        spacing: Voxel size on each axis.
        groups: By name the labels whose union is one object.
        tolerance: Distance up to which a surface voxel is in its place.
        reach: How far to look: distances up to it are exact, those beyond count as it.
        block: What is read at a time, in voxels.
    """
    none = Counted.of(np.empty(0))
    total: dict[Side, Counted] = {(name, side): none for name in groups for side in (0, 1)}
    beyond = dict.fromkeys(groups, 0)
    # Half as long as what is read: with what is around, a block holds as much.
    step = tuple(-(-n // 2) for n in block)
    for window in aligned_windows(pair.shape, step) if groups else []:
        (own,) = surfaces(pair, window, groups, step)
        left = {(name, side): own[name][side] for name, side in total}
        for around in (reach * FIRST, reach):
            for key, told in _measured(pair, spacing, left, groups, around, block).items():
                known = np.isfinite(told)
                total[key] += Counted.of(told[known])
                left[key] = left[key][~known]
        for key, places in left.items():
            total[key] += Counted.of(np.full(len(places), reach))
            beyond[key[0]] += len(places)
    return {
        name: SurfaceDistances.of(
            total[name, 0], total[name, 1], tolerance, reach=reach, n_beyond=beyond[name]
        )
        for name in groups
    }


def _measured(
    pair: Pair,
    spacing: Sequence[float],
    places: Mapping[Side, Places],
    groups: Groups,
    within: float,
    block: Shape,
) -> dict[Side, NDArray[np.float64]]:
    """Distances of voxels from the other surface; infinite where there is none within."""
    wanted = {name: groups[name] for (name, _), held in places.items() if len(held)}
    if not wanted:
        return {}
    everything = np.concatenate([*places.values()])
    steps = tuple(int(within * (1 + ROUNDING) / size) for size in spacing)
    start, last = everything.min(axis=0).tolist(), everything.max(axis=0).tolist()
    around = Window.between(tuple(start), tuple(n + 1 for n in last)).grown(steps)
    found: dict[Side, list[Places]] = {(name, side): [] for name in wanted for side in (0, 1)}
    for box in surfaces(pair, around.clipped(pair.shape), wanted, block):
        for name, side in found:
            found[name, side].append(box[name][side])
    return {
        (name, side): distances(
            places[name, side], np.concatenate(found[name, 1 - side]), spacing, within
        )
        for name, side in found
    }
