"""How far voxels are from the nearest of others, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

Places = NDArray[np.int64]
"""Indices of voxels, (n, d)."""
NEAR = 16
"""Voxels, of the finest axis, that the first search goes: nearly always it finds."""
QUERY = 2**19
"""Voxels looked up at a time."""
BOX_VOXELS = 2**24
"""Largest box whose distances are transformed: 300 MB."""
COST_RATIO = 150
"""What a far look-up costs, in voxels of a distance transform; measured: 0.1 ms against 0.6 µs."""


def distances(
    places: Places, others: Places, spacing: Sequence[float], within: float = np.inf
) -> NDArray[np.float64]:
    """Distance of voxels to the nearest of others, centre to centre.

    A k-d tree of the others is ten times faster than scipy's distance transform where surfaces run
    side by side, and needs no array of the volume. It is slow for many voxels far from the others,
    which all are about as near; these are left to the transform.

    Args:
        places: Indices of voxels, (n, d).
        others: Indices of the others, (m, d).
        spacing: Voxel size on each axis.
        within: How far to look.

    Returns:
        Distances in the unit of the spacing, (n,); infinite where there is none of the others.
    """
    told = np.full(len(places), np.inf)
    if not len(others):
        return told
    scale = np.asarray(spacing, np.float64)
    # Faster for voxels than the defaults: built in a third of the time, searched in nine tenths.
    tree = KDTree(others * scale, leafsize=32, balanced_tree=False)
    near = min(within, NEAR * float(scale.min()))
    rows = _looked_up(tree, places, scale, near)
    far = np.flatnonzero(rows == tree.n)
    if len(far) and near < within:
        rows[far] = _far(tree, places[far], others, scale, within)
    found = rows < tree.n
    told[found] = _between(places[found], others[rows[found]], scale)
    told[told > within] = np.inf
    return told


def _looked_up(
    tree: KDTree, places: Places, scale: NDArray[np.float64], within: float
) -> NDArray[np.int64]:
    """Row of the nearest of each, (n,); the tree's size where there is none."""
    # A tree's bound is exclusive.
    bound = np.nextafter(within, np.inf)
    parts = (places[i : i + QUERY] * scale for i in range(0, len(places), QUERY))
    rows = [tree.query(points, distance_upper_bound=bound)[1] for points in parts]
    return np.concatenate([np.empty(0, np.int64), *rows])


def _far(
    tree: KDTree, places: Places, others: Places, scale: NDArray[np.float64], within: float
) -> NDArray[np.int64]:
    """Row of the nearest of each, by what costs less."""
    low = np.minimum(places.min(axis=0), others.min(axis=0))
    high = np.maximum(places.max(axis=0), others.max(axis=0))
    box = tuple(int(n) for n in high - low + 1)
    if np.prod(box) > min(BOX_VOXELS, COST_RATIO * len(places)):
        return _looked_up(tree, places, scale, within)
    return _transformed(places - low, others - low, box, scale)


def _transformed(
    places: Places, others: Places, box: tuple[int, ...], scale: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Row of the nearest of each, by scipy's exact Euclidean distance transform of a box."""
    row = np.full(box, -1, np.int32)
    row[tuple(others.T)] = np.arange(len(others))
    nearest = ndimage.distance_transform_edt(
        row < 0, sampling=scale, return_distances=False, return_indices=True
    )
    at = tuple(places.T)
    return np.asarray(row[tuple(axis[at] for axis in nearest)], np.int64)


def _between(one: Places, other: Places, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    # From whole steps: the same wherever in the volume the two are.
    total = np.zeros(len(one))
    for axis, size in enumerate(scale):
        total += np.square((one[:, axis] - other[:, axis]) * size)
    return np.sqrt(total)
