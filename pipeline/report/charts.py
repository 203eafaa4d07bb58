"""Charts of numbers as inline SVG.

Their colours come from the page's style sheet, so that they follow light and dark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, log10

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 12, 40
MOST_POINTS = 300


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    name: str
    """What it shows."""
    points: tuple[tuple[float, float], ...]
    """x and y, by rising x."""
    color: tuple[int, int, int] | None = None
    """RGB; None: the colour of the text."""


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
    ys = [y for s in drawn for _, y in s.points]
    if not ys:
        return ""
    xs = [x for s in series for x, _ in s.points]
    y_range, y_ticks = _y_axis(ys, y_range)
    across = _scale((min(xs), max(xs)), (LEFT, WIDTH - RIGHT))
    up = _scale(y_range, (HEIGHT - BOTTOM, TOP))
    parts = [_horizontal(up(y), _number(y)) for y in y_ticks]
    x_ticks = [x for x in ticks(min(xs), max(xs)) if min(xs) <= x <= max(xs)]
    parts += [_below(across(x), _number(x)) for x in x_ticks]
    parts += [_line(s, across, up) for s in drawn if s.points]
    return _framed(parts, escape(x_label), escape(y_label))


def density_chart(picture: str, limits: tuple[float, float], *, x_label: str, y_label: str) -> str:
    """A picture over two axes of one range, and the line on which both are equal, as inline SVG.

    Args:
        picture: Data URI; its left and lower edges are at the lower limit.
        limits: Lower and upper end of both axes.
        x_label: What x is.
        y_label: What y is.
    """
    across = _scale(limits, (LEFT, WIDTH - RIGHT))
    up = _scale(limits, (HEIGHT - BOTTOM, TOP))
    marks = [mark for mark in ticks(*limits) if limits[0] <= mark <= limits[1]]
    parts = [_horizontal(up(y), _number(y)) for y in marks]
    parts += [_below(across(x), _number(x)) for x in marks]
    place = f'x="{LEFT}" y="{TOP}" width="{WIDTH - RIGHT - LEFT}" height="{HEIGHT - BOTTOM - TOP}"'
    drawn = 'preserveAspectRatio="none" image-rendering="pixelated"'
    parts.append(f'<image href="{picture}" {place} {drawn}/>')
    parts.append(_diagonal())
    return _framed(parts, escape(x_label), escape(y_label))


def reliability_chart(
    points: Sequence[tuple[float, float]], shares: Sequence[tuple[float, float, float]]
) -> str:
    """How often what is held for so likely is true, as inline SVG; on the rising line it is so.

    Args:
        points: Confidence and accuracy, both from 0 to 1, by rising confidence.
        shares: Lower and upper confidence of a bin, and the part of all voxels in it; bars.
    """
    across = _scale((0.0, 1.0), (LEFT, WIDTH - RIGHT))
    up = _scale((0.0, 1.0), (HEIGHT - BOTTOM, TOP))
    marks = ticks(0.0, 1.0)
    parts = [_horizontal(up(y), _number(y)) for y in marks]
    parts += [_below(across(x), _number(x)) for x in marks]
    parts += [
        f'<rect class="share" x="{across(low)}" y="{up(share)}" '
        f'width="{max(0.5, across(high) - across(low) - 1):.2f}" '
        f'height="{HEIGHT - BOTTOM - up(share):.2f}"/>'
        for low, high, share in shares
    ]
    parts.append(_diagonal())
    parts.append(_line(Series("accuracy", tuple(points)), across, up))
    return _framed(parts, "confidence", "accuracy")


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


def _y_axis(
    ys: Sequence[float], y_range: tuple[float, float] | None
) -> tuple[tuple[float, float], list[float]]:
    """Both ends of the y axis, and its ticks."""
    if y_range is not None:
        return y_range, ticks(*y_range)
    marks = ticks(min(0.0, *ys), max(ys))
    return (min(marks[0], *ys), max(marks[-1], *ys)), marks


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


def _diagonal() -> str:
    return (
        f'<line class="tick" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{TOP}"/>'
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


def _framed(parts: Sequence[str], x_label: str, y_label: str) -> str:
    """The chart's parts as a picture, the axes named."""
    x, y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{y_label} over {x_label}">{"".join(parts)}'
        f'<text x="{x}" y="{HEIGHT - 4}" text-anchor="middle">{x_label}</text>'
        f'<text transform="translate(10 {y}) rotate(-90)" text-anchor="middle">{y_label}</text>'
        "</svg>"
    )
