"""Metadata that other programs read: OME-NGFF 0.5 and CF georeference.

Written by hand, because the ome-zarr writers drop axis units and the version of the ``labels``
group. A level is a group that holds its array beside ``y``, ``x`` and ``spatial_ref``, so that the
same store opens as a multiscale image in OME readers and as a dataset in xarray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.layout import CHUNK_SIDE
from pipeline.space import Grid

VERSION = "0.5"
# The units of OME-NGFF's axes; a degree is none of them, so geographic scenes carry no unit there.
OME_UNITS = ("millimeter", "meter", "micrometer")
# Distinct on screen and to colour-blind eyes (Okabe and Ito 2008); repeated beyond seven classes.
COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


@dataclass(frozen=True)
class LabelClass:
    """A class of a labelmap, as stores and reports name it."""

    label: int
    """Its number in the labelmap."""
    name: str
    """Its name."""
    background: bool = False
    """Whether it is the background: shown transparent, not sampled for, not scored."""

    @property
    def color(self) -> tuple[int, int, int]:
        """RGB, 0 to 255; the same class has the same colour everywhere."""
        return (128, 128, 128) if self.background else COLORS[(self.label - 1) % len(COLORS)]


def pyramid_factors(grid: Grid) -> list[tuple[int, ...]]:
    """Downsampling of each pyramid level against the full array, the first all ones.

    Each level halves the axes that are still finer than twice the finest one, so that anisotropic
    volumes become isotropic on the way down, until the array fits one chunk.
    """
    factors = [(1,) * len(grid.shape)]
    side = CHUNK_SIDE[len(grid.shape)]
    while max(coarser := grid.coarser(factors[-1]).shape) > side:
        spacing = grid.coarser(factors[-1]).spacing
        limit = 2 * min(s for s, n in zip(spacing, coarser, strict=True) if n > 1)
        step = [2 if n > 1 and s < limit else 1 for n, s in zip(coarser, spacing, strict=True)]
        factors.append(tuple(f * s for f, s in zip(factors[-1], step, strict=True)))
    return factors


def level_path(level: int, array: str | None) -> str:
    """Path of a pyramid level's array in its multiscale group."""
    return str(level) if array is None else f"{level}/{array}"


def multiscales(name: str, array: str | None, grid: Grid, *, channels: bool) -> dict[str, Any]:
    """The ``multiscales`` entry of a pyramid.

    OME-NGFF 0.5 knows scale and translation only, no rotation: spacing is exact, the full affine
    stands in segflow's own attributes.

    Args:
        name: Name shown by viewers.
        array: Array name inside each level's group; None: a level is the array itself.
        grid: Grid of the full-size level.
        channels: Whether a channel axis comes first.
    """
    unit = {"unit": grid.unit} if grid.unit in OME_UNITS else {}
    axes: list[dict[str, Any]] = [{"name": a, "type": "space", **unit} for a in grid.axes]
    lead = [1.0] if channels else []
    if channels:
        axes.insert(0, {"name": "c", "type": "channel"})
    datasets = []
    for level, factors in enumerate(pyramid_factors(grid)):
        scale = [s * f for s, f in zip(grid.spacing, factors, strict=True)]
        shift = [s * (f - 1) / 2 for s, f in zip(grid.spacing, factors, strict=True)]
        transforms = [
            {"type": "scale", "scale": lead + scale},
            {"type": "translation", "translation": [0.0] * len(lead) + shift},
        ]
        path = level_path(level, array)
        datasets.append({"path": path, "coordinateTransformations": transforms})
    return {"name": name, "axes": axes, "datasets": datasets}


def image_label(classes: Sequence[LabelClass], source: str | None) -> dict[str, Any]:
    """The ``image-label`` entry: colours and names of a labelmap's classes.

    Args:
        classes: The labelmap's classes.
        source: Path from the label group to its image; None where the image is elsewhere.
    """
    entry: dict[str, Any] = {
        "version": VERSION,
        "colors": [
            {"label-value": c.label, "rgba": [*c.color, 0 if c.background else 255]}
            for c in classes
        ],
        "properties": [{"label-value": c.label, "class": c.name} for c in classes],
    }
    return entry if source is None else {**entry, "source": {"image": source}}


def coordinates(grid: Grid) -> dict[str, NDArray[np.float64]]:
    """World coordinate of each voxel's centre along each axis, by axis name.

    Axes that run along no world axis (oblique scans, rotated scenes) have no such line; theirs is
    the distance from the first voxel for scans, and none for scenes, whose GeoTransform says all.
    """
    centre = 0.5 if grid.anchor == "corner" else 0.0
    lines = {}
    for axis, (name, n) in enumerate(zip(grid.axes, grid.shape, strict=True)):
        index = np.arange(n, dtype=np.float64) + centre
        if grid.rectilinear:
            column = grid.matrix[:-1, axis]
            world = int(np.argmax(np.abs(column)))
            lines[name] = grid.matrix[world, -1] + column[world] * index
        elif grid.crs is None:
            lines[name] = grid.spacing[axis] * np.arange(n, dtype=np.float64)
    return lines


def coordinate_attributes(grid: Grid, axis: str) -> dict[str, Any]:
    """CF attributes of a coordinate line."""
    attributes: dict[str, Any] = {"axis": axis.upper()}
    if grid.unit is not None:
        attributes["units"] = grid.unit
    if grid.crs is not None:
        attributes["standard_name"] = f"projection_{axis}_coordinate"
    if grid.unit == "degree":
        east = axis == "x"
        attributes["standard_name"] = "longitude" if east else "latitude"
        attributes["units"] = "degrees_east" if east else "degrees_north"
    return attributes


def spatial_ref(grid: Grid) -> dict[str, Any] | None:
    """CF grid-mapping attributes as rioxarray reads them; None for grids without a place on Earth.

    Returns:
        ``crs_wkt``, ``spatial_ref`` and ``GeoTransform`` in GDAL's order, to the last digit.
    """
    if grid.crs is None:
        return None
    (a_y, a_x, a_0), (b_y, b_x, b_0), _ = grid.affine
    transform = (a_0, a_x, a_y, b_0, b_x, b_y)
    return {
        "crs_wkt": grid.crs,
        "spatial_ref": grid.crs,
        "GeoTransform": " ".join(repr(v) for v in transform),
    }
