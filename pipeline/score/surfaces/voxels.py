"""Which voxels are an object's surface, told box by box.

A voxel of an object is on its surface where a face neighbour is scored and outside the object. So
it is in MONAI and medpy, with the same treatment of the volume's border: what lies beyond is
outside, and a cut object has a surface there. Two things are told apart that they do not know:
voxels that are not scored, and the axis of a single slice, make no surface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Shape, Window, aligned_windows

Reader = Callable[[Window], NDArray[Any]]
"""Labels of a window inside the volume, (*S); no data where not less than the number of classes."""
Groups = Mapping[str, Sequence[int]]
"""By name the labels whose union is one object: a class, or a region of classes."""
Places = NDArray[np.int64]
"""Indices of voxels in the volume, (n, d)."""
SIDES = {2: 4096, 3: 256}
"""Side of the boxes that are read, by number of axes: whole chunks of a store, 16 MiB of labels."""
SLAB_VOXELS = 2**20
"""Voxels that are compared with their neighbours at a time."""


@dataclass(frozen=True)
class Pair:
    """A mask and its truth."""

    mask: Reader
    """Predicted labels."""
    truth: Reader
    """True labels."""
    shape: Shape
    """Of both, in voxels, (Z, Y, X) or (Y, X)."""
    classes: int
    """Number of classes, K."""

    def labels(self, window: Window) -> tuple[NDArray[Any], NDArray[Any]]:
        """Labels of both in a window and one voxel around it.

        Returns:
            Mask and truth: K where either says nothing, K + 1 beyond the volume.
        """
        beyond = self.classes + 1
        grown = window.grown((1,) * len(self.shape))
        read = grown.clipped(self.shape)
        both = [np.asarray(reader(read)) for reader in (self.mask, self.truth)]
        unknown = (both[0] >= self.classes) | (both[1] >= self.classes)
        margins = [
            (a - b, d - c)
            for a, b, c, d in zip(read.start, grown.start, read.stop, grown.stop, strict=True)
        ]
        # A picture's third axis has no neighbours, and no surface.
        fill = [(self.classes if n == 1 else beyond,) * 2 for n in self.shape]
        for i, labels in enumerate(both):
            known = np.where(unknown, self.classes, labels).astype(np.min_scalar_type(beyond))
            both[i] = np.pad(known, margins, constant_values=fill)
        return both[0], both[1]


def surfaces(
    pair: Pair, window: Window, groups: Groups, block: Shape
) -> Iterator[dict[str, tuple[Places, Places]]]:
    """Surface voxels in a window, one box after the other.

    Args:
        pair: Mask and truth.
        window: Where to look, inside the volume.
        groups: Objects to look for.
        block: What is read at a time, in voxels.

    Yields:
        By name the surface voxels of mask and truth in a box, in C order.
    """
    for box in aligned_windows(window.shape, block):
        place = box.shifted(window.start)
        mask, truth = pair.labels(place)
        ours = surface_voxels(mask, groups, pair.classes)
        theirs = surface_voxels(truth, groups, pair.classes)
        start = np.asarray(place.start)
        yield {name: (ours[name] + start, theirs[name] + start) for name in groups}


def surface_voxels(labels: NDArray[Any], groups: Groups, classes: int) -> dict[str, Places]:
    """Surface voxels of all objects in a box.

    Args:
        labels: Labels of the box and one voxel around it; K where nothing is known, K + 1 beyond
            the volume.
        groups: Objects to look for.
        classes: Number of classes, K.

    Returns:
        By name their indices in the box, (n, d), in C order.
    """
    shape = tuple(n - 2 for n in labels.shape)
    found: dict[str, list[Places]] = {name: [] for name in groups}
    step = max(1, SLAB_VOXELS * shape[0] // max(1, int(np.prod(shape))))
    for row in range(0, shape[0], step):
        slab = labels[row : row + step + 2]
        for name, places in _in_slab(slab, groups, classes).items():
            places[:, 0] += row
            found[name].append(places)
    none = np.empty((0, labels.ndim), np.int64)
    return {name: np.concatenate([none, *places]) for name, places in found.items()}


def _in_slab(labels: NDArray[Any], groups: Groups, classes: int) -> dict[str, Places]:
    neighbours = list(_neighbours(labels))
    core = labels[(slice(1, -1),) * labels.ndim]
    differs = np.zeros(core.shape, np.bool_)
    for other in neighbours:
        differs |= core != other
    held = core[differs]
    around = [other[differs] for other in neighbours]
    places = np.argwhere(differs)
    found = {}
    for name, numbers in groups.items():
        own = np.zeros(classes + 2, np.bool_)
        own[[*numbers]] = True
        inside = own.copy()
        inside[classes] = True
        buried = np.ones(len(held), np.bool_)
        for other in around:
            buried &= inside[other]
        found[name] = places[own[held] & ~buried]
    return found


def _neighbours(labels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The box moved by one voxel across each of its faces."""
    for axis in range(labels.ndim):
        for moved in (slice(0, -2), slice(2, None)):
            yield labels[tuple(moved if a == axis else slice(1, -1) for a in range(labels.ndim))]
