"""GeoJSON: polygons in longitude and latitude (RFC 7946), written as they are traced.

Those that lie over the date line are cut there. Of a picture without a place on Earth they are in
pixels, x to the right and y down from its first corner, as viewers of pictures take them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.export.case import Export
from pipeline.export.georeference import provenance
from pipeline.export.outlines import Outlines
from pipeline.export.polygons import needs_regions, outlines_of, places, shapes, table
from pipeline.export.rings import Rings
from pipeline.io.readers.geo.crs import same_crs, to_crs, wkt_of
from pipeline.io.readers.geo.footprint import DEGREES, cut_at_date_line

STEP_PIXELS = 64
"""Longest straight piece of an edge that bends on its way to longitude and latitude."""
DECIMALS = 9
"""Of degrees that were worked out: a tenth of a millimetre."""


def write(export: Export) -> None:
    """Write the mask's regions as a collection of features, one a line.

    Raises:
        CaseError: The mask is a volume, holds numbers, or lies where there is no longitude.
    """
    needs_regions(export)
    about = json.dumps(provenance(export))
    with export.target.open("w") as file:
        file.write(f'{{"type": "FeatureCollection", "segflow": {about}, "features": [')
        separator = "\n"
        for outlines in outlines_of(export):
            for feature in _features(export, outlines):
                file.write(separator + feature)
                separator = ",\n"
        file.write("\n]}\n")


def _features(export: Export, outlines: Outlines) -> Iterator[str]:
    columns = table(export, outlines)
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    for polygon, row in zip(_polygons(export, outlines.rings), rows, strict=True):
        properties = json.dumps(dict(zip(columns, row, strict=True)))
        geometry = shapely.to_geojson(polygon)
        yield f'{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}'


def _polygons(export: Export, rings: Rings) -> NDArray[Any]:
    crs, degrees = export.grid.crs, wkt_of(DEGREES)
    if crs is None:
        return shapes(places(export, rings.corners), rings)
    if same_crs(crs, degrees):
        points = places(export, rings.corners)
    else:
        rings = with_steps(rings)
        points = to_crs(places(export, rings.corners), crs, degrees).round(DECIMALS)
    if not np.isfinite(points).all():
        raise CaseError(
            "it lies in part where its system has no longitude and latitude.",
            "Export it as gpkg, which keeps its own system.",
        )
    return np.array([cut_at_date_line(polygon) for polygon in shapes(points, rings)], object)


def with_steps(rings: Rings) -> Rings:
    """The same rings with a corner wherever an edge meets a multiple of ``STEP_PIXELS``.

    Neighbours have the same ones, so that their common edges bend alike.
    """
    here, there = rings.corners[:-1], rings.corners[1:]
    axis = np.argmax(here != there, axis=1)
    begin, end = (np.take_along_axis(c, axis[:, None], 1)[:, 0] for c in (here, there))
    low = np.minimum(begin, end) // STEP_PIXELS
    high = (np.maximum(begin, end) - 1) // STEP_PIXELS
    added = np.maximum(high - low, 0)
    added[rings.starts[1:-1] - 1] = 0  # between the end of a ring and the start of the next
    copies = np.append(added + 1, 1)
    last = np.cumsum(copies)
    corners, edge = rings.corners.repeat(copies, axis=0), np.arange(len(copies)).repeat(copies)
    nth = np.arange(len(corners)) - (last - copies)[edge]
    new, edge, nth = np.flatnonzero(nth), edge[nth > 0], nth[nth > 0]
    step = np.where(end[edge] > begin[edge], low[edge] + nth, high[edge] + 1 - nth)
    corners[new, axis[edge]] = step * STEP_PIXELS
    return replace(rings, corners=corners, starts=np.append(0, last)[rings.starts])
