"""Cloud Optimized GeoTIFF: what QGIS and every other program of the field opens.

The mask's pixels go into a plain tiled GeoTIFF window by window; GDAL's COG driver then makes the
file of it, with overviews by mode (of numbers by mean), and holds no more than its cache. What no
data is stays so: the file's nodata value is the store's.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.shutil import copy
from rasterio.windows import Window as RasterWindow

from pipeline.export.case import Export
from pipeline.export.georeference import gdal_transform, needs_scene, provenance, software
from pipeline.io.files import write_atomic

CACHE_BYTES = 64 * 2**20
"""What GDAL holds of files that it reads and writes."""
SIDE = 512
"""Of the file's tiles, as of the store's chunks."""


def write(export: Export) -> None:
    """Write a scene, or a picture without a place, as Cloud Optimized GeoTIFF.

    Class names stand in its tags, and in ``<name>.aux.xml`` beside it, where GDAL and QGIS look for
    those of a legend.

    Raises:
        CaseError: The mask is a volume.
    """
    needs_scene(export, "GeoTIFF")
    plain = export.target.with_name(f".{export.target.name}")  # never the target's own name
    numbers = export.mask.target is not None
    with (
        warnings.catch_warnings(),
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_PAM_ENABLED=False),
    ):
        # A picture has no place, and rasterio wonders whether it was forgotten.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        _write_plain(export, plain)
        copy(
            plain,
            export.target,
            driver="COG",
            BLOCKSIZE=SIDE,
            # Read by every TIFF library; ZSTD is not.
            COMPRESS="DEFLATE",
            PREDICTOR="YES" if numbers else "NO",
            OVERVIEW_RESAMPLING="AVERAGE" if numbers else "MODE",
            BIGTIFF="IF_SAFER",
        )
    plain.unlink()
    if not numbers:
        write_atomic(Path(f"{export.target}.aux.xml"), _category_names(export).encode())


def _write_plain(export: Export, path: Path) -> None:
    height, width = export.grid.shape
    nodata = math.nan if export.mask.target is not None else int(export.mask.attributes["nodata"])
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": export.dtype,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": SIDE,
        "blockysize": SIDE,
        "compress": "DEFLATE",
        "zlevel": 1,
        "bigtiff": "IF_SAFER",
    }
    if export.grid.crs is not None:
        profile["crs"] = export.grid.crs
    with rasterio.open(path, "w", **profile, **_placed(export)) as raster:
        raster.update_tags(TIFFTAG_SOFTWARE=software(export), **provenance(export))
        raster.update_tags(**{f"CLASS_{c.label}": c.name for c in export.classes})
        raster.set_band_description(1, export.mask.target or "class")
        if export.classes:
            raster.write_colormap(1, {c.label: (*c.color, 255) for c in export.classes})
        for window in export.mask.windows():
            (row, column), (rows, columns) = window.start, window.shape
            raster.write(
                export.mask.read(window), 1, window=RasterWindow(column, row, columns, rows)
            )


def _placed(export: Export) -> dict[str, Any]:
    """The transform of a mask that has a place."""
    if export.grid.crs is None:
        return {}
    return {"transform": rasterio.Affine(*gdal_transform(export.grid))}


def _category_names(export: Export) -> str:
    """Names by label as GDAL keeps what a format has no place for."""
    names = {c.label: c.name for c in export.classes}
    lines = [
        f"      <Category>{escape(names.get(label, ''))}</Category>"
        for label in range(max(names, default=-1) + 1)
    ]
    return "\n".join(
        [
            "<PAMDataset>",
            '  <PAMRasterBand band="1">',
            "    <CategoryNames>",
            *lines,
            "    </CategoryNames>",
            "  </PAMRasterBand>",
            "</PAMDataset>",
            "",
        ]
    )
