"""Pictures of cases and charts of numbers, as text that a page can hold.

Pictures are PNG in data URIs: the image at its own resolution, and over it contours drawn finer
than its voxels. Charts are inline SVG whose colours come from the page's style sheet, so that they
follow light and dark.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from pipeline.io.ngff import LabelClass
from pipeline.space import Grid

Size = tuple[int, int]

# Small planes are drawn larger than they are, so that a contour is thinner than a voxel.
LEAST_SIDE, MOST_SIDE = 640, 1024
NO_LABEL = (128, 128, 128, 150)
DIFFERENCE = (255, 25, 25, 110)
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class View:
    """A plane of an array, turned as people of the field expect it."""

    name: str
    """What the plane is called."""
    axis: int | None
    """Array axis the plane stands across; None: the array is the plane."""
    index: int
    """The plane's place on that axis."""
    transposed: bool
    """Whether rows and columns change places."""
    flipped: tuple[bool, bool]
    """Whether rows run backwards, whether columns do; after the change of places."""
    spacing: tuple[float, float]
    """Distance between rows and between columns, as shown."""

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The plane of an array: (..., *S) -> (..., H, W)."""
        plane = array if self.axis is None else np.take(array, self.index, axis=self.axis - 3)
        if self.transposed:
            plane = np.swapaxes(plane, -1, -2)
        rows, columns = (slice(None, None, -1 if flip else None) for flip in self.flipped)
        return plane[..., rows, columns]

    def size(self, shape: Size) -> Size:
        """Height and width in pixels at which a plane is drawn, in true proportions."""
        finest = min(self.spacing)
        true = [n * s / finest for n, s in zip(shape, self.spacing, strict=True)]
        whole = max(1, ceil(LEAST_SIDE / max(true)))
        factor = min(float(whole), MOST_SIDE / max(true))
        height, width = (max(1, round(n * factor)) for n in true)
        return height, width


def choose_views(grid: Grid, foreground: NDArray[np.bool_]) -> list[View]:
    """The planes to show: one across each axis of a volume, the picture itself of a scene.

    A plane is the one with most foreground, the one next to the middle where several have it.
    Scans are turned so that superior or anterior is up and the patient's right is right, scenes so
    that north is up; arrays without a place in the world stay as they are.

    Args:
        grid: Of the array.
        foreground: What should be seen, (Z, Y, X) or (Y, X).
    """
    if len(grid.shape) == 2:
        return [_view(grid, None, 0)]
    views = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        counts = foreground.sum(axis=others)
        fullest = np.flatnonzero(counts == counts.max())
        middle = (len(counts) - 1) / 2
        views.append(_view(grid, axis, int(fullest[np.argmin(np.abs(fullest - middle))])))
    return views


def _view(grid: Grid, axis: int | None, index: int) -> View:
    row, column = (a for a in range(len(grid.shape)) if a != axis)
    name = "" if axis is None else grid.axes[axis]
    placed = _directions(grid)
    transposed, flipped = False, (False, False)
    if placed is not None:
        world, rising = placed
        name = name if axis is None or grid.crs is not None else PLANES[world[axis]]
        if transposed := world[row] < world[column]:
            row, column = column, row
        flipped = (rising[row], not rising[column])
    return View(name, axis, index, transposed, flipped, (grid.spacing[row], grid.spacing[column]))


def _directions(grid: Grid) -> tuple[list[int], list[bool]] | None:
    """For each array axis the world axis it follows most, and whether it rises along it.

    None where up and right mean nothing: plain pictures, and axes at 45 degrees to the world.
    """
    scan = len(grid.shape) == 3 and grid.unit == "millimeter"
    linear = grid.matrix[:-1, :-1]
    world = [int(w) for w in np.argmax(np.abs(linear), axis=0)]
    if not (scan or grid.crs is not None) or len(set(world)) < len(world):
        return None
    return world, [bool(linear[w, a] > 0) for a, w in enumerate(world)]


def greys(plane: NDArray[Any], limits: Sequence[tuple[float, float]]) -> NDArray[np.uint8]:
    """Bands as a picture, black at the lower limit and white at the upper.

    Args:
        plane: One band or three, (C, H, W).
        limits: Lower and upper value of each band.

    Returns:
        (H, W) of one band, (H, W, 3) of three.
    """
    lows, highs = (np.asarray(v, np.float32)[:, None, None] for v in zip(*limits, strict=True))
    scaled = (plane.astype(np.float32) - lows) / np.maximum(highs - lows, 1e-12)
    picture = np.rint(255 * np.nan_to_num(scaled.clip(0, 1))).astype(np.uint8)
    return picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)


def contours(
    labels: NDArray[Any],
    size: Size,
    classes: Sequence[LabelClass],
    *,
    width: int,
    truth: NDArray[Any] | None = None,
) -> NDArray[np.uint8]:
    """Borders of a labelmap as a transparent picture.

    A contour lies inside its class, in the class's colour, along every border with another label.
    The background has none. Voxels without a label are dimmed.

    Args:
        labels: Labelmap, (H, W).
        size: Height and width of the picture.
        classes: What the labels mean.
        width: Of a contour, in pixels.
        truth: A labelmap of the same shape; voxels with another label there are shaded.

    Returns:
        RGBA, (*size, 4).
    """
    known = np.array([c.label for c in classes])
    fine = enlarged(labels, size)
    reach = 2 * width + 1
    border = minimum_filter(fine, reach, mode="nearest") != maximum_filter(
        fine, reach, mode="nearest"
    )
    picture = np.zeros((*size, 4), np.uint8)
    picture[~np.isin(fine, known)] = NO_LABEL
    if truth is not None:
        other = enlarged(truth, size)
        picture[(fine != other) & np.isin(fine, known) & np.isin(other, known)] = DIFFERENCE
    for c in classes:
        if not c.background:
            picture[border & (fine == c.label)] = (*c.color, 255)
    return picture


def enlarged(labels: NDArray[Any], size: Size) -> NDArray[Any]:
    """A labelmap at another size, each pixel with the label of the voxel it lies in."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * n / wanted).astype(np.intp)
        for n, wanted in zip(labels.shape, size, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])


def png(picture: NDArray[np.uint8], size: Size | None = None) -> str:
    """A picture as a PNG data URI.

    Args:
        picture: (H, W), (H, W, 3) or (H, W, 4).
        size: Height and width to reduce it to where it is larger.
    """
    image = Image.fromarray(np.ascontiguousarray(picture))
    if size is not None and (size[0] < image.height or size[1] < image.width):
        smaller = (min(size[1], image.width), min(size[0], image.height))
        image = image.resize(smaller, Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    name: str
    """What it shows."""
    points: tuple[tuple[float, float], ...]
    """x and y, by rising x."""
    color: tuple[int, int, int] | None = None
    """RGB; None: the colour of the text."""


WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 12, 40
MOST_POINTS = 300


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Lines over a common axis, as inline SVG; empty where there is no finite point.

    Args:
        series: What is drawn, the last on top.
        x_label: What x is.
        y_label: What y is.
        y_range: Lower and upper end of the y axis; None: zero, or the lowest value below it, to the
            highest value.
    """
    drawn = [Series(s.name, thinned(s.points), s.color) for s in series]
    points = [p for s in drawn for p in s.points]
    if not points:
        return ""
    xs = [x for s in series for x, _ in s.points]
    ys = [y for _, y in points]
    x_ticks = ticks(min(xs), max(xs))
    y_ticks = ticks(*(y_range or (min(0.0, *ys), max(ys))))
    if y_range is None:
        y_range = (min(y_ticks[0], *ys), max(y_ticks[-1], *ys))
    across = _scale((min(xs), max(xs)), (LEFT, WIDTH - RIGHT))
    up = _scale(y_range, (HEIGHT - BOTTOM, TOP))
    parts = [_horizontal(up(y), _number(y)) for y in y_ticks]
    parts += [_below(across(x), _number(x)) for x in x_ticks if min(xs) <= x <= max(xs)]
    parts += [_line(s, across, up) for s in drawn if s.points]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text transform="translate(10 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(y_label)} over {escape(x_label)}">{"".join(parts)}</svg>'
    )


def thinned(points: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Finite points, neighbours averaged until a chart can show each of them.

    Example:
        >>> thinned([(0, 1.0), (1, float("nan")), (2, 3.0)])
        ((0, 1.0), (2, 3.0))
    """
    finite = [(x, y) for x, y in points if isfinite(x) and isfinite(y)]
    together = ceil(len(finite) / MOST_POINTS) or 1
    if together == 1:
        return tuple(finite)
    groups = [finite[i : i + together] for i in range(0, len(finite), together)]
    return tuple((sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover a range, about ``count`` steps apart.

    Example:
        >>> ticks(0, 0.87)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** floor(log10(span / count))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= count + 0.5)
    digits = max(0, 2 - floor(log10(step)))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}".replace("e-0", "e-")


def _scale(values: tuple[float, float], pixels: tuple[int, int]) -> Callable[[float], float]:
    (a, b), (start, stop) = values, pixels
    span = (b - a) or 1.0
    return lambda v: round(start + (v - a) / span * (stop - start), 2)


def _horizontal(y: float, text: str) -> str:
    return (
        f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>'
    )


def _below(x: float, text: str) -> str:
    foot = HEIGHT - BOTTOM
    return (
        f'<line class="tick" x1="{x}" x2="{x}" y1="{foot}" y2="{foot + 4}"/>'
        f'<text x="{x}" y="{foot + 17}" text-anchor="middle">{text}</text>'
    )


def _line(series: Series, across: Callable[[float], float], up: Callable[[float], float]) -> str:
    points = [(across(x), up(y)) for x, y in series.points]
    style = "" if series.color is None else f' style="--series:rgb{series.color}"'
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    marks = ""
    # Few measurements are shown as such: a line alone hides where they are, and a single one.
    if len(points) <= 2 or min(b[0] - a[0] for a, b in pairwise(points)) > 8:
        marks = "".join(f'<circle cx="{x}" cy="{y}" r="2.5"/>' for x, y in points)
    return (
        f'<g class="series"{style}><title>{escape(series.name)}</title>'
        f'<path d="{path}"/>{marks}</g>'
    )
