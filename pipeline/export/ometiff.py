"""OME-TIFF: labels that Fiji, QuPath and Bio-Formats open, with the size of a pixel and a pyramid.

The pyramid is the store's, as far as its levels are coarser in the plane alone, which is all that
OME-TIFF allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import tifffile
from numpy.typing import NDArray

from pipeline.export.case import SLAB_BYTES, Export
from pipeline.export.georeference import provenance, software
from pipeline.io.ngff import pyramid_factors
from pipeline.space import Shape, Window, aligned_windows

SIDE = 512
"""Of a tile."""
UNITS = {"millimeter": "mm", "meter": "m", "micrometer": "µm"}
BIG_BYTES = 2**31
"""Voxels of which a file is a BigTIFF, long before its compressed size could be too large."""


def write(export: Export) -> None:
    """Write a mask of any kind tile by tile; voxels without data as ``export.nodata`` says."""
    levels = [f for f in pyramid_factors(export.grid) if prod(f[:-2]) == 1]
    big = prod(export.grid.shape) * export.dtype.itemsize > BIG_BYTES
    with tifffile.TiffWriter(export.target, bigtiff=big, ome=True) as file:
        for level, factors in enumerate(levels):
            shape = export.grid.coarser(factors).shape
            told: dict[str, Any] = {"subfiletype": 1}
            if level == 0:
                told = {"subifds": len(levels) - 1, "metadata": _metadata(export)}
            file.write(
                _tiles(export, level, shape),
                shape=shape,
                dtype=export.dtype,
                tile=(SIDE, SIDE),
                photometric="minisblack",
                compression="zlib",
                software=software(export),
                **told,
            )


def _metadata(export: Export) -> dict[str, Any]:
    """What stands in the OME-XML besides sizes and types."""
    about: dict[str, Any] = {"axes": "".join(export.grid.axes).upper(), "Name": export.case}
    # Else it is drawn anew each time.
    about["UUID"] = str(uuid5(NAMESPACE_OID, f"{export.case} {export.mask.key} {export.nodata}"))
    if export.grid.unit in UNITS:
        for axis, spacing in zip(about["axes"], export.grid.spacing, strict=True):
            about |= {f"PhysicalSize{axis}": spacing}
            about |= {f"PhysicalSize{axis}Unit": UNITS[export.grid.unit]}
    about["Channel"] = {"Name": [export.mask.target or "class"]}
    labels = {str(c.label): c.name for c in export.classes}
    about["MapAnnotation"] = [labels, provenance(export)] if labels else [provenance(export)]
    return about


def _tiles(export: Export, level: int, shape: Shape) -> Iterator[NDArray[Any]]:
    """Tiles of a level, plane by plane and row by row."""
    for slab in _slabs(shape, export.dtype.itemsize):
        labels = export.read(slab, level)
        for plane in labels.reshape(-1, *labels.shape[-2:]):
            for tile in aligned_windows(plane.shape, (SIDE, SIDE)):
                yield plane[tile.slices]


def _slabs(shape: Shape, itemsize: int) -> Iterator[Window]:
    """Boxes of whole planes, or of a row of tiles where a plane is large; in file order."""
    plane = prod(shape[-2:]) * itemsize
    if plane <= SLAB_BYTES:
        return iter(aligned_windows(shape, (*_at_once(shape, plane), *shape[-2:])))
    rows = max(1, SLAB_BYTES // (SIDE * shape[-1] * itemsize)) * SIDE
    return iter(aligned_windows(shape, (*(1 for _ in shape[:-2]), rows, shape[-1])))


def _at_once(shape: Shape, plane: int) -> Shape:
    """How many planes a slab holds."""
    return tuple(min(n, max(1, SLAB_BYTES // plane)) for n in shape[:-2])
