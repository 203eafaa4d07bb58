"""GeoTIFF (COG), VRT and JPEG 2000 with rasterio, read window by window."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window as RasterWindow

from pipeline.errors import CaseError
from pipeline.io.readers.geo.gdal import (
    decoded_block,
    open_raster,
    reading,
    refuse_empty_claims,
    target_of,
)
from pipeline.io.readers.source import Role
from pipeline.space import Grid, Shape, Volume, Window, voxel_grid
from pipeline.space.grid import as_affine

DEGREE, METER = "degree", "meter"


class RasterSource:
    """A raster file; each thread has a handle of its own. Overviews are never read."""

    sequential = False

    def __init__(self, path: Path, role: Role) -> None:
        self.path = path
        with reading(path):
            self._target = target_of(path)
            self._local = threading.local()
            raster = self._raster()
            self.block: Shape = decoded_block(self._target, raster)
            refuse_empty_claims(self._target, raster)
            _refuse_pages(path, raster)
            self.grid = _grid(path, raster)
            # Control points, which may bend a file into its place, are not followed.
            self.placed = raster.crs is not None or raster.transform != Affine.identity()
            self._bands, self._alpha = _bands(raster)
            # Each of these asks GDAL about all bands anew.
            nodata, flags, dtypes = raster.nodatavals, raster.mask_flag_enums, raster.dtypes
            self._nodata = [nodata[i - 1] for i in self._bands]
            self._mask = _mask_kind([set(flags[i - 1]) for i in self._bands])
            types = [dtypes[i - 1] for i in self._bands]
        self.dtype = _dtype(path, types, role)
        self.channels = len(self._bands)
        if role == "mask" and self.channels != 1:
            raise CaseError(
                f"{path.name} has {self.channels} bands: a mask has one.",
                "Save the band that holds the classes as a file of its own.",
            )

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Y, X); nodata, masked and transparent pixels are not valid."""
        (row, column), (height, width) = window.start, window.shape
        box = RasterWindow(column, row, width, height)
        with reading(self.path):
            raster = self._raster()
            array, opaque = self._pixels(raster, box)
            drawn = self._drawn(raster, box)
        valid = data_mask(array, self._nodata)
        for also in (opaque, drawn):
            if also is not None:
                valid = also if valid is None else valid & also
        return Volume(self._promised(array, valid), self.grid.cropped(window), valid)

    def _raster(self) -> Any:
        """This thread's handle."""
        # A forked process would share its parent's place in the file.
        if getattr(self._local, "process", None) != os.getpid():
            self._local.raster = open_raster(self._target)
            self._local.process = os.getpid()
        return self._local.raster

    def _pixels(self, raster: Any, box: RasterWindow) -> tuple[NDArray[Any], Any]:
        """Bands, (C, Y, X), and where a band of alpha lets them be seen, (Y, X)."""
        wanted = self._bands if self._alpha is None else [*self._bands, self._alpha]
        if len({raster.dtypes[i - 1] for i in wanted}) == 1:
            # At once: where bands lie pixel by pixel, each read would decode them all.
            pixels = raster.read(wanted, window=box)
            return pixels[: self.channels], None if self._alpha is None else pixels[-1] > 0
        bands = np.stack([raster.read(i, window=box) for i in self._bands])
        return bands, None if self._alpha is None else raster.read(self._alpha, window=box) > 0

    def _drawn(self, raster: Any, box: RasterWindow) -> NDArray[np.bool_] | None:
        """Where a mask that is no band says there is data, (Y, X)."""
        if self._mask is None:
            return None
        bands = self._bands[:1] if self._mask == "dataset" else self._bands
        masks: NDArray[Any] = raster.read_masks(bands, window=box)
        return np.asarray((masks > 0).any(axis=0), bool)

    def _promised(self, array: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
        """The pixels in the type that was told: labels of uint64 as int64."""
        if array.dtype == self.dtype:
            return array
        labels = array if valid is None else np.where(valid, array, 0).astype(array.dtype)
        if (labels > np.iinfo(self.dtype).max).any():
            raise CaseError(
                f"{self.path.name} holds labels above {np.iinfo(self.dtype).max}.",
                "Number the classes from 0.",
            )
        return labels.astype(self.dtype)


def data_mask(array: NDArray[Any], nodata: Sequence[float | None]) -> NDArray[np.bool_] | None:
    """Where an image has data, (Y, X); None: everywhere.

    Several bands may reach the nodata value in earnest (a black shadow), so a pixel is missing
    only where all bands hold theirs. NaN is never in earnest: one band of it makes a pixel missing.

    Args:
        array: (C, Y, X).
        nodata: The value of each band that stands for missing; None: there is none.
    """
    nan = [i for i, value in enumerate(nodata) if value is not None and np.isnan(value)]
    if nan:
        has_nan = [np.isnan(array[i]) for i in nan]
        return ~np.asarray(np.logical_or.reduce(has_nan), bool)
    held = [_held(value, array.dtype) for value in nodata]
    if None in held:
        return None
    missing = np.ones(array.shape[1:], bool)
    for band, value in zip(array, held, strict=True):
        missing &= band == value
        if not missing.any():
            break
    return ~missing


def _held(value: float | None, dtype: np.dtype[Any]) -> float | int | None:
    """A nodata value as pixels of a type hold it; None where they cannot."""
    if value is None or np.issubdtype(dtype, np.floating):
        return value
    limits = np.iinfo(dtype)
    fits = np.isfinite(value) and value == int(value) and limits.min <= value <= limits.max
    return int(value) if fits else None


def open_source(path: Path, role: Role) -> RasterSource:
    """Open a raster file."""
    return RasterSource(path, role)


def _refuse_pages(path: Path, raster: Any) -> None:
    """Refuse several images of one size, of which GDAL gives the first alone."""
    told = raster.tags(ns="SUBDATASETS").values()
    pages = sum(f"({raster.width}P x {raster.height}L x" in text for text in told)
    if pages > 1:
        raise CaseError(
            f"{path.name} holds {pages} images of one size: one is expected.",
            "Save them as the bands of one image, or as a file each.",
        )


def _bands(raster: Any) -> tuple[list[int], int | None]:
    """Numbers of the bands, and of the one that is their alpha."""
    # rasterio counts bands from 1
    meanings = dict(enumerate(raster.colorinterp, start=1))
    alpha = [i for i, meaning in meanings.items() if meaning == ColorInterp.alpha]
    if len(alpha) == raster.count:
        return alpha, None
    colours = [i for i, meaning in meanings.items() if meaning != ColorInterp.alpha]
    return colours, alpha[0] if alpha else None


def _mask_kind(flags: list[set[MaskFlags]]) -> Literal["dataset", "band"] | None:
    """Whether a mask that is no band covers all bands at once, or each has its own."""
    if MaskFlags.per_dataset in flags[0] and MaskFlags.alpha not in flags[0]:
        return "dataset"
    return "band" if any(not told for told in flags) else None


def _dtype(path: Path, types: list[str], role: Role) -> np.dtype[Any]:
    if any("complex" in name for name in types):
        raise CaseError(
            f"{path.name} holds complex numbers: real ones are expected.",
            "Save amplitude and phase, or real and imaginary part, as bands.",
        )
    dtype = np.result_type(*types)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        if role == "image":
            raise CaseError(
                f"{path.name} holds {dtype} pixels: at most 32 bits are expected of integers.",
                "Save it as int32, uint32 or float32.",
            )
        return np.dtype(np.int64)
    return dtype


def _grid(path: Path, raster: Any) -> Grid:
    shape, t, crs = (int(raster.height), int(raster.width)), raster.transform, raster.crs
    if crs is None and t == Affine.identity():
        return voxel_grid(shape)
    if not (np.isfinite(t).all() and t.determinant != 0):
        raise CaseError(
            f"{path.name} has a transform that maps pixels to no place.",
            "Write a valid geotransform, or none, into it.",
        )
    affine = as_affine([[t.b, t.a, t.c], [t.e, t.d, t.f], [0, 0, 1]])
    return Grid(shape, affine, _unit(crs), None if crs is None else crs.to_wkt(), "corner")


def _unit(crs: Any) -> str | None:
    if crs is None:
        return None
    if crs.is_geographic:
        return DEGREE
    metric = crs.linear_units.lower() in ("metre", "meter", "m")
    return crs.linear_units if crs.is_projected and not metric else METER
