"""GeoTIFF as it is written; ``raster`` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from pipeline.io.files import write_atomic
from pipeline.io.readers.geo.crs import same_crs
from pipeline.io.readers.geo.gdal import placeless
from pipeline.space import Grid

__all__ = ["same_crs", "write_geotiff"]

TILE = 256
"""Side of a written file's tiles, pixels."""


def write_geotiff(path: Path, array: NDArray[Any], grid: Grid, nodata: float | None = None) -> None:
    """Write a scene as a tiled, compressed GeoTIFF, atomically; the same voxels, the same bytes.

    Args:
        path: The file.
        array: (C, Y, X), of a type that GeoTIFF holds.
        grid: Where it lies; a picture's grid gives a TIFF without a place.
        nodata: Value that stands for missing, if there is one.
    """
    count, height, width = array.shape
    # GDAL takes a fourth byte band for alpha, and so the near infrared for transparency.
    rgb = count == 3 and array.dtype == np.uint8
    colours = {"photometric": "RGB" if rgb else "MINISBLACK", "alpha": "NO"}
    with placeless(), MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=height,
            width=width,
            count=count,
            dtype=array.dtype,
            nodata=nodata,
            tiled=True,
            blockxsize=TILE,
            blockysize=TILE,
            compress="deflate",
            **colours,
            **_place(grid),
        ) as raster:
            raster.write(array)
        write_atomic(path, memory.read())


def _place(grid: Grid) -> dict[str, Any]:
    if grid.crs is None and grid.anchor == "center":
        return {}
    (a_y, a_x, a_0), (b_y, b_x, b_0), _ = grid.affine
    return {"crs": grid.crs, "transform": rasterio.Affine(a_x, a_y, a_0, b_x, b_y, b_0)}
