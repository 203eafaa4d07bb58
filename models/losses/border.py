"""Voxel weights that make a network learn the gaps between touching objects."""

from collections.abc import Sequence
from math import ceil, log, sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Instances: TypeAlias = NDArray[np.integer[Any]]
Distances: TypeAlias = NDArray[np.float64]

NEGLIGIBLE = 1e-6
"""Share of the border weight that may be lost by not looking further."""


def border_weights(
    instances: Instances,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights: Sequence[float] | None = None,
    labels: NDArray[Any] | None = None,
    sampling: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Weigh background by how narrow the gap is that it fills.

    w = w_c + w0 · exp(-(d1 + d2)² / (2 sigma²)), d1 and d2 being the distances to the nearest
    and the second nearest object, the second term on background alone: Ronneberger et al.,
    MICCAI 2015, equation 2. The second term is exact where it is above 1e-6 · w0, else at most
    that much too low.

    Args:
        instances: Number of the object at each voxel, (Y, X) or (Z, Y, X), 0 for background.
        w0: Weight at a gap of no width.
        sigma: Width of gaps that still matter, in units of ``sampling``.
        class_weights: w_c of each class; None: one everywhere.
        labels: Class of each voxel, shape of ``instances``; None: 1 in objects, 0 elsewhere.
            A voxel of no class, as an ignored one, has w_c = 0.
        sampling: Size of a voxel along each axis; None: one.

    Returns:
        Weights, shape of ``instances``.

    Raises:
        ValueError: ``sigma`` is not positive, or ``labels`` have another shape.

    Example:
        >>> border_weights(np.array([[1, 0, 2]]), w0=10, sigma=2).round().tolist()
        [[1.0, 7.0, 1.0]]
    """
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}: give the width of a gap that matters, as 5 voxels")
    reach = border_reach(sigma)
    nearest, second = _two_nearest(instances, reach, tuple(sampling or (1.0,) * instances.ndim))
    gap = np.exp(-((nearest + second) ** 2) / (2 * sigma**2)) * (instances == 0)
    weights = _class_weights(instances, labels, class_weights) + w0 * gap
    return np.asarray(weights, np.float32)


def border_reach(sigma: float) -> float:
    """Give how far from a voxel an object can lie and still count, in units of ``sigma``."""
    return sigma * sqrt(-2 * log(NEGLIGIBLE))


def instances_of(mask: NDArray[Any]) -> NDArray[np.int32]:
    """Number the connected parts of a mask, where nobody numbered its objects.

    Voxels are connected through faces: 4 neighbours in 2-D, 6 in 3-D.

    Args:
        mask: Objects are where it is not 0, (Y, X) or (Z, Y, X).

    Returns:
        Numbers from 1, 0 for background, shape of ``mask``.

    Example:
        >>> instances_of(np.array([[1, 0], [0, 1]])).tolist()
        [[1, 0], [0, 2]]
    """
    numbers: NDArray[np.int32] = ndimage.label(mask)[0]
    return numbers


def _two_nearest(
    instances: Instances, reach: float, sampling: tuple[float, ...]
) -> tuple[Distances, Distances]:
    """Distances to the nearest and second nearest object; infinite beyond ``reach``.

    Each object is measured in its box grown by ``reach`` alone. A voxel outside that box is
    further than ``reach`` from it, so that d1 + d2 is too, whichever of the two the object is:
    there the exponential is below what reach was chosen for, and infinity makes it zero.
    """
    nearest = np.full(instances.shape, np.inf)
    second = np.full(instances.shape, np.inf)
    numbered = _numbered(instances)
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        near = tuple(
            slice(max(0, side.start - ceil(reach / step)), side.stop + ceil(reach / step))
            for side, step in zip(box, sampling, strict=True)
        )
        distance = ndimage.distance_transform_edt(numbered[near] != number, sampling=sampling)
        np.minimum(second[near], np.maximum(nearest[near], distance), out=second[near])
        np.minimum(nearest[near], distance, out=nearest[near])
    return nearest, second


def _numbered(instances: Instances) -> NDArray[np.int32]:
    """The same objects, numbered from 1 without gaps, whatever their numbers were."""
    met, places = np.unique(instances, return_inverse=True)
    numbers = np.zeros(len(met), np.int32)
    numbers[met != 0] = np.arange(1, 1 + np.count_nonzero(met))
    numbered: NDArray[np.int32] = numbers[places.reshape(instances.shape)]
    return numbered


def _class_weights(
    instances: Instances, labels: NDArray[Any] | None, class_weights: Sequence[float] | None
) -> Distances:
    if labels is not None and labels.shape != instances.shape:
        raise ValueError(
            f"labels have shape {labels.shape}, instances {instances.shape}: "
            "give both for the same voxels"
        )
    if class_weights is None:
        return np.ones(instances.shape)
    classes = (instances != 0).astype(np.int64) if labels is None else labels.astype(np.int64)
    known = (classes >= 0) & (classes < len(class_weights))
    by_class = np.asarray(class_weights, np.float64)
    return np.where(known, by_class[np.where(known, classes, 0)], 0.0)
