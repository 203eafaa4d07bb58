"""GeoTIFF with rasterio: bands, CRS, affine and nodata, read window by window."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterWindow

from pipeline.errors import CaseError
from pipeline.io.files import write_atomic
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Grid, Volume, Window, voxel_grid
from pipeline.space.grid import as_affine

DAMAGE = (RasterioError, OSError, ValueError)
DEGREE, METER = "degree", "meter"
TILE = 256
"""Side of a written file's tiles, pixels."""


class GeotiffSource:
    """A GeoTIFF file, or a TIFF without a place. Opened anew for each window: safe anywhere."""

    def __init__(self, path: Path, role: Role) -> None:
        self.path = path
        with damage_is_a_case_error(path, *DAMAGE), _open(path) as raster:
            self.placed = raster.crs is not None
            self.grid = _grid(raster)
            alpha = [i == ColorInterp.alpha for i in raster.colorinterp]
            # rasterio counts bands from 1
            self._bands = [i for i, is_alpha in enumerate(alpha, start=1) if not is_alpha]
            self._alpha = alpha.index(True) + 1 if any(alpha) else None
            self._nodata: float | None = raster.nodata
            self.dtype: np.dtype[Any] = np.dtype(raster.dtypes[0])
        self.channels = len(self._bands)
        if role == "mask" and self.channels != 1:
            raise CaseError(
                f"{path.name} has {self.channels} bands: a mask has one.",
                "Save the band that holds the classes as a file of its own.",
            )

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Y, X); nodata and transparent pixels are not valid."""
        (row, column), (height, width) = window.start, window.shape
        box = RasterWindow(column, row, width, height)
        with damage_is_a_case_error(self.path, *DAMAGE), _open(self.path) as raster:
            array: NDArray[Any] = raster.read(self._bands, window=box)
            opaque = None if self._alpha is None else raster.read(self._alpha, window=box) > 0
        valid = data_mask(array, self._nodata)
        if opaque is not None:
            valid = opaque if valid is None else valid & opaque
        return Volume(array, self.grid.cropped(window), valid)


def data_mask(array: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Where an image has data, (Y, X); None: everywhere.

    Several bands may reach the nodata value in earnest (a black shadow), so a pixel is missing
    only where all bands hold it. NaN is never in earnest: one band of it makes a pixel missing.

    Args:
        array: (C, Y, X).
        nodata: The value that stands for missing; None: there is none.
    """
    if nodata is None:
        return None
    nan = np.isnan(nodata)
    missing: NDArray[np.bool_] = (
        np.isnan(array).any(axis=0) if nan else (array == nodata).all(axis=0)
    )
    return ~missing


def open_source(path: Path, role: Role) -> GeotiffSource:
    """Open a GeoTIFF file."""
    return GeotiffSource(path, role)


def same_crs(one: str, other: str) -> bool:
    """Whether two coordinate reference systems, as WKT, mean the same."""
    return one == other or bool(CRS.from_wkt(one) == CRS.from_wkt(other))


def write_geotiff(path: Path, array: NDArray[Any], grid: Grid, nodata: float | None = None) -> None:
    """Write a scene as a tiled, compressed GeoTIFF, atomically; the same voxels, the same bytes.

    Args:
        path: The file.
        array: (C, Y, X), of a type that GeoTIFF holds.
        grid: Where it lies; one without a CRS gives a TIFF without a place.
        nodata: Value that stands for missing, if there is one.
    """
    count, height, width = array.shape
    place = {} if grid.crs is None else {"crs": grid.crs, "transform": _transform(grid)}
    # GDAL takes a fourth byte band for alpha, and so the near infrared for transparency.
    rgb = count == 3 and array.dtype == np.uint8
    colours = {"photometric": "RGB" if rgb else "MINISBLACK", "alpha": "NO"}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
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
            **place,
        ) as raster:
            raster.write(array)
        write_atomic(path, memory.read())


def _transform(grid: Grid) -> Any:
    (a_y, a_x, a_0), (b_y, b_x, b_0), _ = grid.affine
    return rasterio.Affine(a_x, a_y, a_0, b_x, b_y, b_0)


def _open(path: Path) -> Any:
    with warnings.catch_warnings():
        # A TIFF without georeference is a picture, which is nothing to warn of.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def _grid(raster: Any) -> Grid:
    shape = (int(raster.height), int(raster.width))
    if raster.crs is None:
        return voxel_grid(shape)
    t = raster.transform
    affine = as_affine([[t.b, t.a, t.c], [t.e, t.d, t.f], [0, 0, 1]])
    unit = DEGREE if raster.crs.is_geographic else METER
    if raster.crs.is_projected and raster.crs.linear_units.lower() not in ("metre", "meter", "m"):
        unit = raster.crs.linear_units
    return Grid(shape, affine, unit, raster.crs.to_wkt(), "corner")
