"""OME-Zarr's metadata (NGFF 0.4 and 0.5): which axis is which, and how long a voxel is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from pipeline.io.readers.containers.array_rules import scaled_grid
from pipeline.space import Grid, Shape, voxel_grid
from pipeline.space.grid import as_affine

MM = {
    **dict.fromkeys(("angstrom", "Å"), 1e-7),
    **dict.fromkeys(("picometer", "pm"), 1e-9),
    **dict.fromkeys(("nanometer", "nm"), 1e-6),
    # Both signs of micro, Unicode's own and the Greek letter, are in use.
    **dict.fromkeys(("micrometer", "micron", "microns", "um", "\u00b5m", "\u03bcm"), 1e-3),
    **dict.fromkeys(("millimeter", "mm"), 1.0),
    **dict.fromkeys(("centimeter", "cm"), 10.0),
    **dict.fromkeys(("decimeter", "dm"), 100.0),
    **dict.fromkeys(("meter", "m"), 1000.0),
    **dict.fromkeys(("inch", "in"), 25.4),
}
"""Millimetres per unit of length, as NGFF, OME-XML and ImageJ write it."""


@dataclass(frozen=True)
class OmeImage:
    """The full-size level of an OME-Zarr image."""

    path: str
    """Its array, from the image's group."""
    axes: str
    """One letter per axis of the array."""
    units: tuple[str | None, ...]
    """Unit of each axis."""
    scale: tuple[float, ...]
    """Length of a voxel on each axis, in its unit."""
    shift: tuple[float, ...]
    """World coordinate of the first voxel on each axis, in its unit."""


def ome_image(attributes: Mapping[str, Any]) -> OmeImage | None:
    """The image that a group is, by its attributes; None where it is none.

    Raises:
        ValueError: Its metadata are not what NGFF 0.4 or 0.5 says.
    """
    inner = attributes.get("ome", attributes)
    scales = inner.get("multiscales") if isinstance(inner, Mapping) else None
    if not scales:
        return None
    entry = scales[0]
    axes = [
        axis if isinstance(axis, Mapping) else {"name": axis} for axis in entry.get("axes", "tczyx")
    ]
    letters = "".join("c" if axis.get("type") == "channel" else str(axis["name"]) for axis in axes)
    if (
        len(letters) != len(axes)
        or len(set(letters)) != len(axes)
        or not {"y", "x"} <= set(letters)
    ):
        raise ValueError(f"axes {[axis.get('name') for axis in axes]}")
    level = entry["datasets"][0]
    steps = [*level.get("coordinateTransformations", ())]
    steps += entry.get("coordinateTransformations", ())
    scale, shift = _composed(steps, len(axes))
    units = tuple(axis.get("unit") for axis in axes)
    return OmeImage(str(level["path"]), letters, units, scale, shift)


def _composed(
    steps: Sequence[Mapping[str, Any]], n: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and translation of a chain of NGFF's transformations, the first applied first."""
    scale, shift = np.ones(n), np.zeros(n)
    for step in steps:
        match step["type"]:
            case "scale":
                factor = np.asarray(step["scale"], np.float64)
                scale, shift = scale * factor, shift * factor
            case "translation":
                shift = shift + np.asarray(step["translation"], np.float64)
            case "identity":
                pass
            case other:
                raise ValueError(f"a coordinate transformation of type {other}")
    if scale.shape != (n,) or shift.shape != (n,):
        raise ValueError(f"transformations of {scale.shape} and {shift.shape} for {n} axes")
    return tuple(map(float, scale)), tuple(map(float, shift))


def ome_grid(image: OmeImage, shape: Shape) -> tuple[Grid, bool]:
    """Where an image lies, and whether it says so itself.

    A scale alone is no place: many writers give one to the image and none to its mask. Axes
    without a unit keep their proportions.

    Args:
        image: The image.
        shape: Its spatial shape, (Z, Y, X) or (Y, X).
    """
    order = [image.axes.index(axis) for axis in "zyx"[-len(shape) :]]
    known = [MM[unit] for i in order if (unit := image.units[i]) in MM]
    unit = "millimeter" if len(known) == len(order) else None
    factors = known if unit else [1.0] * len(order)
    scaled = [image.scale[i] * f for i, f in zip(order, factors, strict=True)]
    grid = scaled_grid(shape, scaled)
    if grid.unit is None or not all(isfinite(s) for s in image.shift):
        return voxel_grid(shape), False
    matrix = grid.matrix
    # World order is (x, y, z), array order (z, y, x).
    matrix[:-1, -1] = [image.shift[i] * f for i, f in zip(order, factors, strict=True)][::-1]
    placed = unit is not None and any(image.shift[i] for i in order)
    return Grid(grid.shape, as_affine(matrix), unit), placed
