"""New labels and object numbers of components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.components.components import Components
from pipeline.components.graph import joined
from pipeline.components.rules import ClassRule, Cleanup


def cleaned(components: Components, cleanup: Cleanup, voxel_size: float) -> NDArray[Any]:
    """Labels after holes are filled and components removed.

    A hole is a background component without a voxel on the volume's border or beside one of no
    data that touches components of one class only. Filled, it is part of the component around it,
    whose size then decides whether it stays; removed, both become background. In a mask without a
    background class nothing changes.

    Args:
        components: Those of the mask.
        cleanup: The rules; one for the background does nothing.
        voxel_size: World units of a voxel, mm³ or m².

    Returns:
        New label of each component, (n,), in the mask's type.
    """
    background = components.background
    if background is None or not cleanup.active:
        return components.label.copy()
    after = _filled(components, cleanup)
    group = _objects(components, after)
    size, first = _measured(components, group)
    label = np.empty(len(size), after.dtype)
    label[group] = after
    for value, rule in cleanup.rules.items():
        if value != background:
            of_class = np.flatnonzero(label == value)
            gone = _removed(rule, size[of_class] * voxel_size, size[of_class], first[of_class])
            label[of_class[gone]] = background
    return label[group]


def objects(components: Components, labels_after: NDArray[Any]) -> NDArray[np.uint32 | np.uint64]:
    """Number the objects of a mask: what is connected and of one class, the background excepted.

    Args:
        components: Those of the mask.
        labels_after: Label of each component after ``cleaned``, (n,).

    Returns:
        Object of each component, (n,): 1, 2, ... in the order of first voxels, 0 of background;
        a filled hole has the number of what encloses it. uint64 where uint32 is too narrow.
    """
    group = _objects(components, labels_after)
    _, first = _measured(components, group)
    held = np.ones(len(first), np.bool_)
    if components.background is not None:
        held[group] = labels_after != components.background
    found = np.flatnonzero(held)
    dtype = np.min_scalar_type(max(len(found), 1 << 16))
    number = np.zeros(len(first), dtype)
    number[found[np.argsort(first[found])]] = np.arange(1, len(found) + 1)
    return number[group]


def _filled(components: Components, cleanup: Cleanup) -> NDArray[Any]:
    """Labels after holes are filled, (n,)."""
    label, touching = components.label, components.touching
    around = label[touching[:, 1]].astype(np.int64)
    lowest = np.full(len(label), np.iinfo(np.int64).max)
    highest = np.full(len(label), -1)
    np.minimum.at(lowest, touching[:, 0], around)
    np.maximum.at(highest, touching[:, 0], around)
    filling = [value for value, rule in cleanup.rules.items() if rule.fill_holes]
    hole = (lowest == highest) & ~components.outside & np.isin(lowest, filling)
    return np.where(hole, highest, label).astype(label.dtype)


def _objects(components: Components, after: NDArray[Any]) -> NDArray[np.int64]:
    """Number groups of components that are of one label now: filled holes and what is around."""
    label = after[components.touching]
    return joined(len(after), components.touching[label[:, 0] == label[:, 1]])


def _measured(
    components: Components, group: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels and first index of each group."""
    size = np.zeros(int(group.max(initial=-1)) + 1, np.int64)
    first = np.full(len(size), np.iinfo(np.int64).max)
    np.add.at(size, group, components.size)
    np.minimum.at(first, group, components.first)
    return size, first


def _removed(
    rule: ClassRule,
    world_size: NDArray[Any],
    size: NDArray[np.int64],
    first: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which objects of a class a rule removes."""
    gone = world_size < rule.smallest
    if rule.largest_only and len(size):
        gone |= np.arange(len(size)) != np.lexsort((first, -size))[0]
    return np.asarray(gone, np.bool_)
