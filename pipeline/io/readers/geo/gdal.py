"""GDAL, kept to local files of three formats, to bounded memory and away from the network."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import Interleaving
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError

from pipeline.errors import CaseError
from pipeline.io.readers.geo.vrt import CheckedVrt
from pipeline.io.readers.source import damage_is_a_case_error

# rasterio lets some of GDAL's own complaints (CPLE) through as they are.
DAMAGE = (RasterioError, CPLE_BaseError, OSError, ValueError, RecursionError)
MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
"""First bytes of a file → GDAL's driver: TIFF, BigTIFF, JPEG 2000 in its box and bare."""
HOLDS = {".tif": "GTiff", ".tiff": "GTiff", ".jp2": "JP2OpenJPEG"}
BLOCK_BYTES = 2**30
"""Most that a file may make GDAL decode at once."""
FREE_BYTES = 2**30
"""Pixels that are read whatever the size of the file: a second's work."""
DENSEST = 2**15
"""Most bytes of pixels for one byte of file, beyond ``FREE_BYTES``.

An empty tile of 512 × 512 bytes, eight bytes in the file, is as dense as that; one grey value
compresses 1000 times with deflate and 2400 times with ZSTD. What is denser holds next to nothing
but the claim of its size, and reading it would take for ever.
"""
SETTINGS = {
    # Listing a folder of 100,000 tiles takes longer than opening one; sidecars are found by name.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    # GDAL's own default is a twentieth of the machine's memory.
    "GDAL_CACHEMAX": 64 * 2**20,
    "GDAL_GEOREF_SOURCES": "PAM,INTERNAL,WORLDFILE",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GTIFF_IGNORE_READ_ERRORS": "NO",
    # Nothing has such a suffix, so nothing is fetched, whatever name a file carries inside.
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": "{noop}",
}
_filters = threading.Lock()


@dataclass(frozen=True)
class Target:
    """What GDAL is told to open."""

    path: Path
    """The file."""
    name: str
    """Its full path; for a VRT its checked text, so that GDAL sees what was checked."""
    driver: str
    """The one GDAL driver that may open it."""
    files: tuple[Path, ...]
    """The files that hold the pixels: itself, or those a VRT names."""
    inner: tuple[Path, ...] = ()
    """The VRTs within a VRT."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """GDAL's settings for the time of a read; its complaints become a CaseError."""
    with damage_is_a_case_error(path, *DAMAGE), rasterio.Env(**SETTINGS):
        try:
            yield
        except RasterioIOError as error:
            # Its own words are "Read failed. See previous exception for details."
            raise RasterioIOError(str(error.__cause__ or error)) from error


def target_of(path: Path) -> Target:
    """What to open for a file, its content checked against its suffix.

    Raises:
        CaseError: The file is of another format than it says, or a VRT that reaches too far.
    """
    if path.suffix.lower() == ".vrt":
        with damage_is_a_case_error(path, *DAMAGE):
            vrt = CheckedVrt(path, lambda file: driver_of(file) is not None)
        return Target(path, vrt.text, "VRT", tuple(vrt.rasters), tuple(vrt.inner))
    driver, stated = driver_of(path), HOLDS.get(path.suffix.lower())
    if path.stat().st_size > 0 and (driver is None or stated not in (None, driver)):
        kind = "JPEG 2000" if stated == "JP2OpenJPEG" else "TIFF"
        raise CaseError(
            f"{path.name} does not hold {kind}, whatever its suffix says.",
            "Give the file the suffix of its own format, or export it again.",
        )
    return Target(path, str(path.absolute()), driver or "GTiff", (path,))


def driver_of(path: Path) -> str | None:
    """The GDAL driver for a file by its first bytes; None: neither TIFF nor JPEG 2000."""
    with path.open("rb") as file:
        head = file.read(max(map(len, MAGIC)))
    return next((driver for magic, driver in MAGIC.items() if head.startswith(magic)), None)


@contextmanager
def placeless() -> Iterator[None]:
    """No warning of rasters without a place: a TIFF without georeference is a picture."""
    # Filters of warnings, which rasterio changes too, belong to the process: one thread at a time.
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_raster(target: Target) -> Any:
    """Open a raster with its one driver; what is given serves one thread."""
    with placeless():
        return rasterio.open(target.name, driver=target.driver)


def decoded_block(target: Target, raster: Any) -> tuple[int, int]:
    """Pixels that are decoded at once, (Y, X): the largest block of a raster's files.

    Raises:
        CaseError: A block does not fit into memory, or a mask file beside is something else.
    """
    if target.driver != "VRT":
        return _file_block(target.path, raster)
    # A VRT speaks of blocks of its own, which are not those of its files.
    blocks = [raster.shape if not target.files else (1, 1)]
    for path in target.files:
        with open_raster(target_of(path)) as file:
            blocks.append(_file_block(path, file))
    heights, widths = zip(*blocks, strict=True)
    return min(max(heights), raster.height), min(max(widths), raster.width)


def _file_block(path: Path, raster: Any) -> tuple[int, int]:
    mask = path.with_name(f"{path.name}.msk")
    if mask.is_file() and driver_of(mask) != "GTiff":
        raise CaseError(
            f"{mask.name} does not hold TIFF, as a mask file beside an image must.",
            "Remove it, or write the image's mask again.",
        )
    heights, widths = zip(*raster.block_shapes, strict=True)
    height, width = max(heights), max(widths)
    sizes = _pixel_sizes(raster)
    size = (
        height * width * (sum(sizes) if raster.interleaving == Interleaving.pixel else max(sizes))
    )
    if size > BLOCK_BYTES:
        raise CaseError(
            f"{path.name} is cut into blocks of {height} x {width} pixels, {size / 1e9:.3g} GB to "
            f"decode at once: at most {BLOCK_BYTES / 1e9:.3g} GB are expected.",
            "Write it in tiles: gdal_translate -co TILED=YES.",
        )
    return min(height, raster.height), min(width, raster.width)


def refuse_empty_claims(target: Target, raster: Any) -> None:
    """Refuse a file that claims pixels out of all proportion to its size.

    Raises:
        CaseError: It claims more than ``DENSEST`` allows.
    """
    claimed = raster.height * raster.width * sum(_pixel_sizes(raster))
    held = sum(path.stat().st_size for path in target.files)
    if claimed > FREE_BYTES + DENSEST * held:
        raise CaseError(
            f"{target.path.name} claims {claimed / 1e9:.3g} GB of pixels in {held} bytes: at most "
            f"{DENSEST} bytes of pixels for one of the file are expected.",
            "Cut it to the area that holds data.",
        )


def _pixel_sizes(raster: Any) -> list[int]:
    # complex_int16 is the one type of GDAL's that numpy has no name for.
    return [4 if name == "complex_int16" else np.dtype(name).itemsize for name in raster.dtypes]


def companions(path: Path) -> tuple[Path, ...]:
    """Files besides this one that its pixels, place or validity are read from.

    Those a VRT names, and beside each file its ``.aux.xml``, ``.msk`` and world file.

    Raises:
        CaseError: The file is a VRT that is damaged or reaches too far.
    """
    with damage_is_a_case_error(path, *DAMAGE):
        target = target_of(path)
    beside = [s for file in target.files for s in _sidecars(file) if s.is_file()]
    found = dict.fromkeys((*target.inner, *target.files, *beside))
    return tuple(file for file in found if file != path)


def _sidecars(path: Path) -> list[Path]:
    kind = path.suffix[1:]
    ends = [kind[:1] + kind[-1:] + "w", f"{kind}w", "wld"]
    worlds = [f"{path.stem}.{cased}" for end in ends for cased in (end.lower(), end.upper())]
    return [path.with_name(n) for n in (f"{path.name}.aux.xml", f"{path.name}.msk", *worlds)]
