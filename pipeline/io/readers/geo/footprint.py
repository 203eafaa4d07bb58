"""Where scenes lie in longitude and latitude, the date line minded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping

from pipeline.io.readers.geo.crs import same_crs, to_crs, wkt_of
from pipeline.space import Grid

DEGREES = "EPSG:4326"
STEPS = 16
"""Points on each side of a scene, which bends on its way to longitude and latitude."""
DECIMALS = 7
"""Of degrees: a centimetre."""


@dataclass(frozen=True)
class Footprint:
    """A scene's outline in degrees."""

    geometry: dict[str, Any]
    """A polygon, or several where it lies over the date line, as GeoJSON has them."""
    bbox: tuple[float, float, float, float]
    """West, south, east, north; west is greater than east over the date line (RFC 7946)."""


def footprint(grid: Grid) -> Footprint | None:
    """The outline of a scene; None where its system has no longitude and latitude there."""
    assert grid.crs is not None
    degrees = wkt_of(DEGREES)
    steps = 1 if same_crs(grid.crs, degrees) else STEPS
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], np.float64)
    parts = np.linspace(corners[:-1], corners[1:], steps, endpoint=False, axis=1)
    edge = np.concatenate([parts.reshape(-1, 2), corners[:1]]) * grid.shape
    outer = grid.cornered.index_to_world(edge)
    points = to_crs(outer, grid.crs, degrees) if steps > 1 else outer
    if not np.isfinite(points).all():
        return None
    polygon = cut_at_date_line(shapely.orient_polygons(shapely.Polygon(points.round(DECIMALS))))
    return Footprint(_plain(mapping(polygon)), _bbox(polygon))


def cut_at_date_line(polygon: Any) -> Any:
    """A polygon as it is, or as several where it lies on both sides of longitude 180."""
    west, _, east, _ = polygon.bounds
    if east - west < 180 and west >= -180 and east <= 180:
        return polygon
    least = 0 if east <= 180 else -180
    turned = shapely.transform(polygon, lambda points: _eastward(points, least))
    behind = shapely.intersection(turned, shapely.box(180, -90, 540, 90))
    parts = [
        shapely.intersection(turned, shapely.box(-180, -90, 180, 90)),
        shapely.transform(behind, lambda points: points - np.array([360, 0])),
    ]
    areas = [p for part in parts for p in shapely.get_parts(part) if p.area > 0]
    return shapely.orient_polygons(shapely.MultiPolygon(areas))


def _eastward(points: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Longitudes from ``least`` on."""
    return points + np.where(points[:, :1] < least, [[360.0, 0.0]], [[0.0, 0.0]])


def _bbox(polygon: Any) -> tuple[float, float, float, float]:
    if polygon.geom_type == "Polygon":
        west, south, east, north = (float(v) for v in polygon.bounds)
        return west, south, east, north
    boxes = [part.bounds for part in polygon.geoms]
    south, north = min(b[1] for b in boxes), max(b[3] for b in boxes)
    west = min(b[0] for b in boxes if b[2] > 0)
    east = max(b[2] for b in boxes if b[2] <= 0)
    return float(west), float(south), float(east), float(north)


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
