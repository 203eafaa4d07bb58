"""Where a picture lies: which way it looks, how long a bar on it is, and its coordinates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import floor, isfinite, log10

import numpy as np

from pipeline.drawing.views import View
from pipeline.io.readers.geo.crs import code_of, to_crs, wkt_of
from pipeline.report.words import times
from pipeline.space import Grid
from pipeline.space.grid import SYMBOLS, TOWARDS
from pipeline.space.metric import degree_lengths

LONGEST = 0.3
"""Part of a picture's width that a bar takes at most."""


@dataclass(frozen=True)
class Marks:
    """What stands on a picture, so that its place is known."""

    ends: tuple[str, str, str, str] | None
    """Letters of its left, right, upper and lower edge; None where the place is unknown."""
    bar: float
    """Length of the bar in percent of the picture's width; 0: there is none."""
    length: str
    """The bar's length in words."""


def marks(grid: Grid, view: View, columns: int) -> Marks:
    """Letters at a picture's edges, and a bar of a round length.

    Args:
        grid: Of the array.
        view: The picture.
        columns: Voxels across it.
    """
    bar, length = _bar(columns * view.spacing[1], grid)
    return Marks(_ends(grid, view), bar, length)


def _ends(grid: Grid, view: View) -> tuple[str, str, str, str] | None:
    """Letters of scans; of scenes north is up, which needs none."""
    if grid.orientation is None or len(grid.shape) == 2:
        return None
    row, column = (a for a in range(3) if a != view.axis)
    if view.transposed:
        row, column = column, row
    world = [int(w) for w in np.abs(grid.matrix[:-1, :-1]).argmax(axis=0)]
    if len(set(world)) < 3:
        return None
    # Rows and columns run towards the second letter: down for rows, so it is the upper edge's.
    across, up = TOWARDS[3][world[column]], TOWARDS[3][world[row]]
    return across[0], across[1], up[1], up[0]


def _bar(width: float, grid: Grid) -> tuple[float, str]:
    """The longest round length that fits, in percent of the width and in words."""
    if grid.unit is None or not isfinite(width) or width <= 0:
        return 0.0, ""
    unit = SYMBOLS.get(grid.unit, {"micrometer": "µm"}.get(grid.unit, grid.unit))
    if grid.unit == "degree":
        width, unit = width * degree_lengths(centre(grid)[1])[0], "m"
    if width <= 0:
        return 0.0, ""
    length = round_length(LONGEST * width)
    share = round(100 * length / width, 2)
    if unit == "m" and length >= 1000:
        return share, f"{length / 1000:g} km"
    return share, f"{length:g} {unit}"


def round_length(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above ``most``.

    Example:
        >>> round_length(37.2), round_length(0.6), round_length(1999)
        (20.0, 0.5, 1000.0)
    """
    power = floor(log10(most))
    step = max(m for m in (1, 2, 5) if m * 10.0**power <= most * (1 + 1e-9))
    return float(f"{step}e{power}")


def centre(grid: Grid) -> tuple[float, float]:
    """World coordinates of a scene's middle, x and y."""
    middle = [(n - (grid.anchor == "center")) / 2 for n in grid.shape]
    x, y = (float(v) for v in grid.index_to_world(middle))
    return x, y


def place_in_words(grid: Grid) -> list[str]:
    """Size and spacing of an array, and where it lies.

    Args:
        grid: Of the array at full size.
    """
    axes = ", ".join(grid.axes)
    size = f"{times(grid.shape)} voxels ({axes})"
    if grid.unit is None:
        return [size]
    spacing = times(grid.spacing, digits=4)
    unit = SYMBOLS.get(grid.unit, grid.unit)
    size += f", {spacing}{unit if unit == '°' else f' {unit}'}"
    if len(grid.shape) == 3 and grid.crs is None and grid.orientation:
        return [f"{size}, stored as {grid.orientation}"]
    return [size] if grid.crs is None or len(grid.shape) != 2 else [size, *_on_earth(grid)]


def _on_earth(grid: Grid) -> list[str]:
    """Edges in the scene's own system, and its middle in degrees."""
    assert grid.crs is not None
    offset = 0.5 if grid.anchor == "center" else 0.0
    rows, columns = ((-offset, n - offset) for n in grid.shape)
    corners = grid.index_to_world([(r, c) for r in rows for c in columns])
    digits = 5 if grid.unit == "degree" else 0 if min(grid.spacing) >= 1 else 2
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    edges = f"x {x0:.{digits}f} to {x1:.{digits}f}, y {y0:.{digits}f} to {y1:.{digits}f}"
    said = [f"{edges} ({crs_name(grid.crs)})"]
    lon, lat = (float(v) for v in to_crs([centre(grid)], grid.crs, wkt_of("EPSG:4326"))[0])
    if isfinite(lon) and isfinite(lat):
        said.append(f"middle at {_degrees(lat, 'NS')}, {_degrees(lon, 'EW')}")
    return said


def crs_name(wkt: str) -> str:
    """A system's name, and its code where it has one."""
    name = re.search(r'"([^"]*)"', wkt)
    return ", ".join(([name.group(1)] if name else []) + [code for code in [code_of(wkt)] if code])


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):.4f}° {letters[value < 0]}"
