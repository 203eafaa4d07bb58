"""Regions of a scene's classes as polygons, with what stands in their table.

A polygon is a region connected over edges, with its holes, its corners on corners of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.export.case import Export
from pipeline.export.georeference import needs_scene, pixel_areas
from pipeline.export.outlines import Block, Outlines, trace
from pipeline.export.rings import Rings
from pipeline.space import Window


def needs_regions(export: Export) -> None:
    """Refuse what has no polygons.

    Raises:
        CaseError: The mask is a volume, or holds numbers.
    """
    needs_scene(export, "a file of polygons")
    export.needs_labels("a file of polygons")


def outlines_of(export: Export) -> Iterator[Outlines]:
    """The mask's regions, the background's left out, as they become whole; memory of a block."""
    wanted = np.zeros(np.iinfo(export.dtype).max + 1, export.dtype)
    for number, c in enumerate(export.foreground, start=1):
        wanted[c.label] = number
    placed = export.grid.crs is not None

    def read(window: Window) -> Block:
        areas = pixel_areas(export.grid, window) if placed else np.ones((1, 1))
        numbers = np.zeros((1, 1)) if export.objects is None else export.objects.read(window)
        return Block(wanted[export.mask.read(window)], areas, numbers)

    return trace(export.grid.shape, read)


def table(export: Export, outlines: Outlines) -> dict[str, NDArray[Any]]:
    """What is told of each region, by column, (n,) each.

    ``area_m2`` where the scene has a place on Earth, ``object`` where objects are numbered.
    """
    regions = outlines.regions
    labels = np.array([c.label for c in export.foreground], np.int32)
    names = np.array([c.name for c in export.foreground], object)
    columns: dict[str, NDArray[Any]] = {
        "class": names[regions.label - 1],
        "label": labels[regions.label - 1],
        "pixels": regions.pixels,
    }
    if export.grid.crs is not None:
        columns["area_m2"] = regions.area
    if export.objects is not None:
        columns["object"] = regions.object
    return columns


def places(export: Export, corners: NDArray[np.int64]) -> NDArray[np.float64]:
    """Corners of pixels in the scene's CRS, x and y; in pixels where it has none, (m, 2)."""
    if export.grid.crs is None:
        return corners[:, ::-1].astype(np.float64)
    return export.grid.cornered.index_to_world(corners)


def shapes(points: NDArray[np.float64], rings: Rings) -> NDArray[Any]:
    """Polygons of rings, outer ones counterclockwise, (n,).

    Args:
        points: Of the rings' corners, (m, 2).
        rings: How they follow each other.
    """
    if not len(points):
        return np.zeros(0, object)
    offsets = rings.starts, rings.polygons
    found = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, offsets)
    return np.asarray(shapely.orient_polygons(found))
