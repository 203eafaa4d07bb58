"""Pages of a TIFF decoded strip by strip, or tile by tile: only what a window needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFrame, TiffPage

from pipeline.io.readers.containers.arrays import BLOCK_RATIO, Slices, refuse_excess
from pipeline.space import Shape


@dataclass(frozen=True)
class PageKind:
    """What the pages of a series have in common."""

    samples: int
    """Samples stored apart, one plane after another."""
    length: int
    """Rows."""
    width: int
    """Columns."""
    together: int
    """Samples stored side by side, pixel by pixel."""
    segment: Shape
    """Rows and columns of a strip or tile."""
    decode: Callable[..., Any]
    """From a segment's bytes and number to its samples, (1, rows, columns, together)."""
    header: bytes | None
    """JPEG header of all segments, where they have none of their own."""

    @property
    def counts(self) -> Shape:
        """Segments: planes of samples, rows of segments, columns of segments."""
        rows, columns = self.segment
        return (self.samples, -(-self.length // rows), -(-self.width // columns))


@dataclass(frozen=True)
class Plane:
    """A page: where its segments lie in the file."""

    kind: PageKind
    path: Path
    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    tables: bytes | None
    """JPEG tables of its segments."""


def page_kind(page: TiffPage) -> PageKind:
    """What a page says of all pages like it.

    Raises:
        ValueError: Its segments are of no size, or it is a volume of its own.
    """
    samples, depth, length, width, together = page.shaped
    rows = page.tilelength if page.is_tiled else min(page.rowsperstrip or length, length)
    columns = page.tilewidth if page.is_tiled else width
    if depth != 1 or min(samples, length, width, together, rows, columns) < 1:
        raise ValueError(f"pages of shape {page.shaped} in segments of {rows} by {columns}")
    segment = (int(rows), int(columns))
    return PageKind(samples, length, width, together, segment, page.decode, page.jpegheader)


def plane(page: TiffPage | TiffFrame, kind: PageKind, itemsize: int) -> Plane:
    """Where a page's segments lie.

    Raises:
        CaseError: A segment claims more than its bytes can hold.
        ValueError: Segments are missing, or lie beyond the file's end.
    """
    path = Path(page.parent.filehandle.path)
    offsets = np.asarray(page.dataoffsets, np.uint64)
    sizes = np.asarray(page.databytecounts, np.uint64)
    wanted = prod(kind.counts)
    if len(offsets) < wanted or len(sizes) < wanted:
        raise ValueError(f"{len(offsets)} segments where {wanted} are needed")
    end = page.parent.filehandle.size
    if np.any(sizes > end) or np.any(offsets > end - sizes):
        raise ValueError("pages lie beyond its end")
    claimed = prod(kind.segment) * kind.together * itemsize
    if sizes.any():
        refuse_excess(path, claimed, int(sizes.max()), BLOCK_RATIO)
    return Plane(kind, path, offsets[:wanted], sizes[:wanted], page.jpegtables)


class Planes:
    """The pages of a series as one array.

    Args:
        planes: Pages, in the order of the leading axes.
        lead: Shape of the leading axes.
        inner: Shape of a page, as its series has it.
        axes: One letter per axis, of the leading axes and of a page's.
        dtype: Element type.
    """

    def __init__(
        self, planes: list[Plane], lead: Shape, inner: Shape, axes: str, dtype: np.dtype[Any]
    ) -> None:
        self._planes, self._lead, self._inner, self._dtype = planes, lead, inner, dtype
        page_axes = axes[len(lead) :]
        self._row, self._column = page_axes.index("y"), page_axes.index("x")

    def __getitem__(self, box: Slices) -> NDArray[Any]:
        """Elements of a box; the axes of samples are taken whole."""
        lead, inner = box[: len(self._lead)], box[len(self._lead) :]
        numbers = np.arange(len(self._planes)).reshape(self._lead)[lead]
        rows, columns = inner[self._row], inner[self._column]
        taken = [len(range(*s.indices(n))) for s, n in zip(inner, self._inner, strict=True)]
        found = np.zeros((*numbers.shape, *taken), self._dtype)
        with ExitStack() as stack:
            files: dict[Path, Any] = {}
            for place, number in np.ndenumerate(numbers):
                page = self._planes[number]
                if page.path not in files:
                    files[page.path] = stack.enter_context(page.path.open("rb", buffering=0))
                samples = _cut(page, files[page.path], rows, columns, self._dtype)
                found[place] = samples.reshape(taken)
        return found


def _cut(page: Plane, file: Any, rows: slice, columns: slice, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Samples of a box of a page, (samples, rows, columns, together)."""
    kind = page.kind
    top, bottom, _ = rows.indices(kind.length)
    left, right, _ = columns.indices(kind.width)
    out = np.zeros((kind.samples, bottom - top, right - left, kind.together), dtype)
    for sample, row, column in _segments(kind, (top, left), (bottom, right)):
        index = int(np.ravel_multi_index((sample, row, column), kind.counts))
        found = _segment(page, file, index)
        if found is None:
            continue
        y, x = row * kind.segment[0], column * kind.segment[1]
        a, b = max(y, top), min(y + found.shape[1], bottom)
        c, d = max(x, left), min(x + found.shape[2], right)
        out[sample, a - top : b - top, c - left : d - left] = found[0, a - y : b - y, c - x : d - x]
    return out


def _segments(kind: PageKind, start: Shape, stop: Shape) -> list[Shape]:
    """Numbers (sample, row, column) of the segments that a box of a page meets."""
    spans = [
        range(a // size, -(-b // size))
        for a, b, size in zip(start, stop, kind.segment, strict=True)
    ]
    return [(s, r, c) for s in range(kind.samples) for r in spans[0] for c in spans[1]]


def _segment(page: Plane, file: Any, index: int) -> NDArray[Any] | None:
    """A decoded segment, (1, rows, columns, together); None where the file leaves it out."""
    size = int(page.sizes[index])
    if size == 0:
        return None
    # pread moves no position: any number of threads may share the file.
    data = os.pread(file.fileno(), size, int(page.offsets[index]))
    found: NDArray[Any] | None = page.kind.decode(
        data, index, jpegtables=page.tables, jpegheader=page.kind.header
    )[0]
    return found
