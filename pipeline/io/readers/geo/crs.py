"""Coordinate reference systems compared, and points taken from one to another."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds

from pipeline.space import Grid

Bounds = tuple[float, float, float, float]
"""Least x, least y, greatest x, greatest y."""
BATCH = 65536
MARGIN = 0.1


def same_crs(one: str, other: str) -> bool:
    """Whether two coordinate reference systems, as WKT, mean the same."""
    return one == other or bool(CRS.from_wkt(one) == CRS.from_wkt(other))


def wkt_of(code: str) -> str:
    """A system's WKT, by its name at an authority.

    Args:
        code: For example ``EPSG:4326``.
    """
    return str(CRS.from_string(code).to_wkt())


def code_of(crs: str) -> str | None:
    """A system's name at an authority, ``EPSG:32633``; None where it is none of a list."""
    authority = CRS.from_wkt(crs).to_authority()
    return None if authority is None else ":".join(authority)


def wkt2_of(crs: str) -> str:
    """A system's WKT as later programs expect it, ISO 19162:2019."""
    return str(CRS.from_wkt(crs).to_wkt(version="WKT2_2019"))


def metres_in(crs: str) -> float | None:
    """Metres in the unit of a system, as WKT; None where its unit is no length."""
    system = CRS.from_wkt(crs)
    return None if system.is_geographic else float(system.linear_units_factor[1])


def to_crs(points: ArrayLike, source: str, target: str) -> NDArray[np.float64]:
    """Points of one system in another, exactly; NaN where the other has no such place.

    Args:
        points: (N, 2), x and y.
        source: Their system, as WKT.
        target: The system wanted, as WKT.
    """
    given = np.asarray(points, np.float64)
    systems = CRS.from_wkt(source), CRS.from_wkt(target)
    # In batches, because rasterio makes lists of them.
    parts = [_moved(given[i : i + BATCH], *systems) for i in range(0, len(given), BATCH)]
    moved = np.concatenate([np.empty((0, 2)), *parts])
    moved[~np.isfinite(moved).all(axis=1)] = np.nan
    return moved


def _moved(points: NDArray[np.float64], source: CRS, target: CRS) -> NDArray[np.float64]:
    try:
        return np.stack(transform(source, target, points[:, 0], points[:, 1]), axis=-1)
    except CPLE_BaseError:
        # One point outside the projection fails its whole batch: look for it by halves.
        if len(points) == 1:
            return np.full((1, 2), np.nan)
        half = len(points) // 2
        return np.concatenate([_moved(p, source, target) for p in (points[:half], points[half:])])


def bounds_in(grid: Grid, crs: str) -> Bounds | None:
    """A box in a system that holds all of a scene, with a margin.

    None where there is no such box: over the date line, or outside the system's projection.
    """
    assert grid.crs is not None
    box = _box(grid)
    if same_crs(grid.crs, crs):
        return _grown(box)
    if turns_round(grid):
        return None
    try:
        # The box's edges bend on the way: 21 points on each follow them.
        moved = transform_bounds(CRS.from_wkt(grid.crs), CRS.from_wkt(crs), *box, densify_pts=21)
    except (CPLE_BaseError, ValueError):
        return None
    return _grown(moved) if np.isfinite(moved).all() and moved[0] < moved[2] else None


def turns_round(grid: Grid) -> bool:
    """Whether a scene in degrees passes the date line: its places have two longitudes each."""
    west, _, east, _ = _box(grid)
    return grid.unit == "degree" and (west < -180.5 or east > 180.5)


def _box(grid: Grid) -> Bounds:
    corners = grid.index_to_world([(y, x) for y in (0, grid.shape[0]) for x in (0, grid.shape[1])])
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    return float(left), float(bottom), float(right), float(top)


def _grown(box: Iterable[float]) -> Bounds:
    left, bottom, right, top = (float(v) for v in box)
    x, y = MARGIN * (right - left), MARGIN * (top - bottom)
    return left - x, bottom - y, right + x, top + y


def difference(image: Grid, mask: Grid) -> str | None:
    """What separates a mask's place from its image's, in words; None where they are the same.

    ``Grid.difference``, and the coordinate reference systems compared by meaning: two programs
    word the same system differently.
    """
    if image.crs and mask.crs and not same_crs(image.crs, mask.crs):
        return "it is in another coordinate reference system"
    return image.difference(mask)
