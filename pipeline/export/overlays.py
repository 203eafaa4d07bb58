"""PNG: a mask's contours over its image, to look at and to send.

Of a scene there is one picture, of a volume three planes, those with most of the classes. They are
cut from the finest level of the pyramid that is small enough, so that memory is that of a picture.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.drawing.bands import shown_limits
from pipeline.drawing.pictures import contours, greys
from pipeline.drawing.sheet import overlaid, sheet
from pipeline.drawing.views import View, choose_views
from pipeline.export.case import Export
from pipeline.io.files import write_atomic
from pipeline.io.ngff import pyramid_factors
from pipeline.io.pyramid import overview_level
from pipeline.space import Grid, Shape, Window

MOST_SIDE = 2048
"""Longest side of a picture, in pixels."""
LINE = 2
"""Width of contours, in pixels."""


def write(export: Export) -> None:
    """Draw a mask.

    Raises:
        CaseError: It holds numbers, or its image was not found.
    """
    export.needs_labels("a picture of contours")
    volume = export.needs_volume()
    limits, level = shown_limits(volume), _level(export.grid)
    grid = export.grid.coarser(pyramid_factors(export.grid)[level])
    pictures = []
    for view in _views(export, level):
        window = _plane(view, grid.shape)
        cut = replace(view, index=0).cut
        image = cut(volume.read_level(window, level, len(limits)))
        labels = cut(export.mask.read(window, level))
        size = view.size((labels.shape[0], labels.shape[1]), MOST_SIDE)
        drawn = contours(labels, size, export.classes, width=LINE)
        pictures.append(overlaid(greys(image, limits), drawn))
    write_atomic(export.target, sheet(pictures, export.foreground))


def _level(grid: Grid) -> int:
    """The finest pyramid level that is no larger than a picture; else the coarsest."""
    shapes = [grid.coarser(factors).shape for factors in pyramid_factors(grid)]
    small = [level for level, shape in enumerate(shapes) if max(shape) <= MOST_SIDE]
    return small[0] if small else len(shapes) - 1


def _views(export: Export, level: int) -> list[View]:
    """The planes of a level to show: those with most foreground, as an overview tells."""
    factors, far = pyramid_factors(export.grid), overview_level(export.grid)
    foreground = np.isin(export.mask.overview(), [c.label for c in export.foreground])
    found = choose_views(export.grid.coarser(factors[far]), foreground)
    # Turned and spaced as planes of this level are.
    drawn = choose_views(export.grid.coarser(factors[level]), np.zeros_like(foreground[:1]))
    return [
        replace(view, index=_moved(seen.index, factors[far][view.axis], factors[level][view.axis]))
        if view.axis is not None
        else view
        for view, seen in zip(drawn, found, strict=True)
    ]


def _moved(index: int, factor: int, other: int) -> int:
    """The plane of a level that lies in the middle of one of a coarser level."""
    return (index * factor + (factor - 1) // 2) // other


def _plane(view: View, shape: Shape) -> Window:
    """A plane as a box of a level."""
    start, size = [0] * len(shape), list(shape)
    if view.axis is not None:
        start[view.axis], size[view.axis] = view.index, 1
    return Window(tuple(start), tuple(size))
