"""CSV: a table of the mask's objects, one row each, measured block by block.

An object is a region of one class connected over faces, edges and corners, numbered in the order of
their first voxels, as ``predict.objects`` does; where those are kept beside the mask, they are it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.components import apply, block_parts, grown_window, merge, objects
from pipeline.export.case import Export
from pipeline.export.georeference import pixel_areas, voxel_size
from pipeline.export.measures import Measures
from pipeline.io.files import csv_cell
from pipeline.space import Grid, Window, aligned_windows

SIDE = {2: 1024, 3: 128}
"""Of a block, in voxels, by number of axes."""
AT_ONCE = 65536
"""Rows that are written together."""
UNITS = {"millimeter": "mm", "meter": "m", "micrometer": "um"}
Numbers = Callable[[Window], NDArray[Any]]


def write(export: Export) -> None:
    """Write the table.

    Its columns: object, class, label, voxels; the size in the grid's unit (``volume_mm3``,
    ``area_m2`` on Earth, …); the centroid and the box, ``box_min_x`` to ``box_max_x``, in world
    coordinates; the box in voxels, ``start_y`` to ``stop_y``; whether it touches the mask's border.

    Raises:
        CaseError: The mask holds numbers.
    """
    export.needs_labels("a table of objects")
    measures = _measured(export)
    found = np.flatnonzero(measures.voxels)
    with export.target.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for start in range(0, max(len(found), 1), AT_ONCE):
            which = found[start : start + AT_ONCE]
            columns = _columns(export, which + 1, measures.rows(which))
            if start == 0:
                table.writerow(columns)
            table.writerows(map(csv_cell, row) for row in zip(*columns.values(), strict=True))


def _measured(export: Export) -> Measures:
    grid = export.grid
    windows = aligned_windows(grid.shape, (SIDE[len(grid.shape)],) * len(grid.shape))
    count, numbers = _kept(export, windows) or _found(export, windows)
    measures = Measures.none(count, len(grid.shape))
    for window in windows:
        measures.add(window, export.mask.read(window), numbers(window), _sizes(grid, window))
    return measures


def _kept(export: Export, windows: list[Window]) -> tuple[int, Numbers] | None:
    """Object numbers that are kept beside the mask, and the highest."""
    if export.objects is None:
        return None
    return max(int(export.objects.read(w).max()) for w in windows), export.objects.read


def _found(export: Export, windows: list[Window]) -> tuple[int, Numbers]:
    """Object numbers by the mask's connected regions, and how many there are."""
    shape, nodata = export.grid.shape, int(export.mask.attributes["nodata"])
    background = next((c.label for c in export.classes if c.background), None)

    def labels(window: Window) -> NDArray[Any]:
        return export.mask.read(grown_window(window, shape))

    parts = (
        block_parts(
            labels(window),
            window,
            shape,
            background=background,
            no_label=nodata,
            classes=len(export.classes),
        )
        for window in windows
    )
    components = merge(shape, parts)
    number = objects(components, components.label)

    def numbers(window: Window) -> NDArray[Any]:
        values = components.values(window, number)
        return apply(labels(window), values, no_label=nodata, fill=0)

    return int(number.max(initial=0)), numbers


def _sizes(grid: Grid, window: Window) -> NDArray[np.float64]:
    """Sizes of a window's voxels in the grid's unit, on Earth in m²."""
    if grid.crs is not None and len(grid.shape) == 2:
        return pixel_areas(grid, window)
    return np.full((1,) * len(grid.shape), voxel_size(grid))


def _columns(export: Export, number: NDArray[np.int64], of: Measures) -> dict[str, list[Any]]:
    grid, names = export.grid, {c.label: c.name for c in export.classes}
    centre = 0.5 if grid.anchor == "corner" else 0.0
    centroid = grid.index_to_world(of.total / of.voxels[:, None] + centre)
    low, high = _boxes(grid, of.low + centre - 0.5, of.high + centre + 0.5)
    columns: dict[str, list[Any]] = {
        "object": number.tolist(),
        "class": [names[label] for label in of.label.tolist()],
        "label": of.label.tolist(),
        "voxels": of.voxels.tolist(),
    }
    if (name := _size_name(grid)) is not None:
        columns[name] = of.size.tolist()
    axes = grid.axes[::-1]  # the world's order is x first
    for what, values in (("centroid", centroid), ("box_min", low), ("box_max", high)):
        columns |= {f"{what}_{axis}": values[:, i].tolist() for i, axis in enumerate(axes)}
    for what, ends in (("start", of.low), ("stop", of.high + 1)):
        columns |= {f"{what}_{axis}": ends[:, i].tolist() for i, axis in enumerate(grid.axes)}
    edge = (of.low == 0) | (of.high == np.asarray(grid.shape) - 1)
    columns["touches_border"] = ["true" if touches else "false" for touches in edge.any(axis=1)]
    return columns


def _size_name(grid: Grid) -> str | None:
    """The size's column; None where a voxel's size is not known."""
    axes = len(grid.shape)
    unit = "m" if axes == 2 and grid.crs is not None else UNITS.get(grid.unit or "")
    return None if unit is None else f"{'area' if axes == 2 else 'volume'}_{unit}{axes}"


def _boxes(grid: Grid, low: NDArray[Any], high: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Least and greatest world coordinates of boxes of voxels, (n, axes) each, x first."""
    ends = np.stack([low, high], axis=1)  # (n, 2, axes)
    corners = [
        ends[:, choice, range(len(grid.shape))]
        for choice in product((0, 1), repeat=len(grid.shape))
    ]
    world = grid.index_to_world(np.stack(corners))
    yield world.min(axis=0)
    yield world.max(axis=0)
