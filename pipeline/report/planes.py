"""A case's planes, each as an image with contours of truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.bands import Limits, shown_limits
from pipeline.drawing.pictures import contours, greys, photograph, png
from pipeline.drawing.views import View, choose_views
from pipeline.io.mask_store import MaskStore
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_store import VolumeStore
from pipeline.report.places import marks
from pipeline.report.stores import readable
from pipeline.space import Grid, Window

# Below this a volume is read whole, above it from its pyramid.
WHOLE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class CaseArrays:
    """Arrays of a case at one resolution."""

    image: NDArray[Any]
    """(C, *S)."""
    limits: Limits
    """What is black and what is white in each of the first bands, those that are shown."""
    truth: NDArray[Any]
    """Labels, or numbers of a regression, (*S)."""
    prediction: NDArray[Any] | None
    """The same; None where there is no mask."""
    grid: Grid
    """Of these arrays."""
    factors: tuple[int, ...]
    """Voxels of the full-size arrays in one of these, per axis."""


def read_arrays(volume: VolumeStore, mask: MaskStore | None) -> CaseArrays:
    """Small cases whole, large ones from a coarser level of the pyramid.

    Args:
        volume: Image and truth.
        mask: The prediction, on the same grid.

    Raises:
        StoreError: The mask cannot be read.
    """
    grid, limits = volume.grid, shown_limits(volume)
    large = prod(grid.shape) * len(volume.channels) * volume.dtype.itemsize > WHOLE_BYTES
    whole = Window.whole(grid.shape)
    prediction = None
    if mask is not None:
        read = mask.overview if large else partial(mask.read, whole)
        prediction = readable(mask.path, read)
    if large:
        image, factors = volume.overview()
        truth, grid = volume.truth_overview(), grid.coarser(factors)
        return CaseArrays(image, limits, truth, prediction, grid, factors)
    image, truth = volume.read(whole).array, volume.read_truth(whole)
    return CaseArrays(image, limits, truth, prediction, grid, (1,) * len(grid.shape))


def planes(case: CaseArrays, classes: Sequence[LabelClass], name: str) -> list[dict[str, Any]]:
    """A case's planes as the page shows them.

    Args:
        case: What to show.
        classes: What the labels mean.
        name: Of the case on the page; the planes are numbered after it.
    """
    wanted = [c.label for c in classes if not c.background]
    foreground = np.isin(case.truth, wanted)
    if not foreground.any() and case.prediction is not None:
        foreground = np.isin(case.prediction, wanted)
    views = choose_views(case.grid, foreground)
    return [{"id": f"{name}-{i}", **_plane(case, view, classes)} for i, view in enumerate(views)]


def _plane(case: CaseArrays, view: View, classes: Sequence[LabelClass]) -> dict[str, Any]:
    image, truth = view.cut(case.image[: len(case.limits)]), view.cut(case.truth)
    height, width = size = view.size((truth.shape[0], truth.shape[1]))
    # Three planes stand side by side, each smaller on the page than a scene is.
    line = 2 if view.axis is None else 3
    overlay = None
    if case.prediction is not None:
        predicted = view.cut(case.prediction)
        overlay = png(contours(predicted, size, classes, width=line, truth=truth))
    return {
        "title": title(case, view),
        "width": width,
        "height": height,
        "share": f"{truth.shape[1] * view.spacing[1]:.4g}",
        "image": photograph(greys(image, case.limits), size),
        "truth": png(contours(truth, size, classes, width=line)),
        "prediction": overlay,
        "marks": marks(case.grid, view, truth.shape[1]),
    }


def title(case: CaseArrays, view: View) -> str:
    """The plane's name and its place in the full-size array."""
    if view.axis is None:
        return view.name
    factor = case.factors[view.axis]
    place = view.index * factor + (factor - 1) // 2
    return f"{view.name}, {case.grid.axes[view.axis]} = {place}"
