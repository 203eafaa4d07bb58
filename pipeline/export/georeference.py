"""A mask's place as geographic formats write it: the corner of its first pixel, a CRS, areas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.export.case import Export
from pipeline.io.readers.geo.crs import metres_in, to_crs, wkt_of
from pipeline.space import Grid, Window

EQUAL_AREA = "EPSG:6933"
"""EASE-Grid 2.0: of the same area everywhere on the ellipsoid, lines of latitude and longitude
straight (Brodzik et al. 2012)."""
FAITHFUL = 0.01
"""How far the areas of a projection may lie from the true ones and still be taken."""


def needs_scene(export: Export, what: str) -> None:
    """Refuse a volume.

    Args:
        export: The mask.
        what: The format's name, for the message.

    Raises:
        CaseError: It has three axes.
    """
    if len(export.grid.shape) != 2:
        raise CaseError(
            f"it is a volume of {export.grid.shape} voxels, and {what} holds scenes and pictures.",
            "Export it as nifti, mha, nrrd, dicomseg or ometiff.",
        )


def voxel_size(grid: Grid) -> float:
    """Area or volume of a voxel, in the grid's unit."""
    if grid.rectilinear:
        return math.prod(grid.spacing)
    return abs(float(np.linalg.det(grid.matrix[:-1, :-1])))


def pixel_areas(grid: Grid, window: Window) -> NDArray[np.float64]:
    """True areas of a scene's pixels, m².

    Those of the projection where it keeps areas to a hundredth, as UTM does; those of the
    ellipsoid in degrees, and in projections such as Web Mercator.

    Args:
        grid: Of the scene, with a CRS.
        window: The pixels asked about.

    Returns:
        (Y, X), or (Y, 1) or (1, 1) where columns or all pixels are alike.
    """
    if grid.crs is not None and (planar := _planar(grid)) is not None:
        return np.full((1, 1), planar)
    north_up = not np.any(grid.matrix[(0, 1), (0, 1)])
    columns = 1 if north_up else window.shape[1]
    return _on_ellipsoid(grid, Window(window.start, (window.shape[0], columns)))


def _planar(grid: Grid) -> float | None:
    """Area of every pixel in the projection, m²; None where it is none, or not the true one."""
    assert grid.crs is not None
    metres = metres_in(grid.crs)
    if metres is None:
        return None
    area = voxel_size(grid) * metres**2
    height, width = grid.shape
    ends = [(y, x) for y in (0, height - 1) for x in (0, width - 1)]
    true = [_on_ellipsoid(grid, Window(end, (1, 1))).item() for end in ends]
    # A local system may have no place in the other: its own areas are all there is.
    off = np.abs(np.asarray(true) / area - 1)
    return None if np.isfinite(off).all() and (off > FAITHFUL).any() else area


def _on_ellipsoid(grid: Grid, window: Window) -> NDArray[np.float64]:
    """Areas of pixels on the ellipsoid, (Y, X), from their corners."""
    assert grid.crs is not None
    rows, columns = (np.arange(a, b + 1) for a, b in zip(window.start, window.stop, strict=True))
    index = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    world = grid.cornered.index_to_world(index)
    flat = to_crs(world.reshape(-1, 2), grid.crs, wkt_of(EQUAL_AREA)).reshape(world.shape)
    falling = flat[1:, 1:] - flat[:-1, :-1]
    rising = flat[:-1, 1:] - flat[1:, :-1]
    return np.asarray(
        np.abs(falling[..., 0] * rising[..., 1] - falling[..., 1] * rising[..., 0]) / 2
    )


def gdal_transform(grid: Grid) -> tuple[float, ...]:
    """The six numbers of an affine as rasterio takes them: a, b, c, d, e, f."""
    (a_y, a_x, a_0), (b_y, b_x, b_0), _ = grid.cornered.affine
    return a_x, a_y, a_0, b_x, b_y, b_0


def software(export: Export) -> str:
    """What predicted a mask, as files name it."""
    versions: dict[str, str] = export.mask.attributes.get("versions", {})
    return f"segflow {versions.get('segflow', '')}".strip()


def provenance(export: Export) -> dict[str, str]:
    """What made a mask, for a file's tags: no path, nothing of a patient."""
    about: dict[str, Any] = export.mask.attributes
    model = about.get("model", {})
    told = {
        "SEGFLOW_CASE": export.case,
        "SEGFLOW_RUN": about.get("run", ""),
        "SEGFLOW_MODEL": model.get("id", ""),
        "SEGFLOW_WEIGHTS_SHA256": model.get("weights_sha256", ""),
        "SEGFLOW_MASK_KEY": export.mask.key,
    }
    return {name: value for name, value in told.items() if value}
