"""Stacks of pages in one TIFF: multi-page files, OME-TIFF and ImageJ hyperstacks, with tifffile.

One axis of pages is Z, whatever the writer called it; two are (C, Z). Uncompressed pages that
follow each other are mapped, others decoded segment by segment.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile, TiffPage, TiffPageSeries

from pipeline.errors import CaseError
from pipeline.io.readers.containers.array_rules import scaled_grid, spatial
from pipeline.io.readers.containers.arrays import ArraySource, StoredArray
from pipeline.io.readers.pictures import tiff_guard
from pipeline.io.readers.pictures.ome import MM
from pipeline.io.readers.pictures.planes import PageKind, Plane, Planes, page_kind, plane
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Shape

DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    ElementTree.ParseError,
    struct.error,
)
PLACES = (33550, 33922, 34264, 34735, 42112, 42113)
"""Tags of GeoTIFF and GDAL."""
ALPHA = (1, 2)
"""Kinds of extra samples that are transparency."""

# What tifffile has to say of a damaged file stands in the CaseError.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_stack(path: Path) -> bool:
    """Whether a TIFF holds several planes, and not a scene with overviews; reads two pages."""
    try:
        with _opened(path) as file:
            return _has_planes(file)
    except Exception:
        # What tifffile cannot read is the other reader's to refuse.
        return False


def _has_planes(file: TiffFile) -> bool:
    first = file.pages.first
    if any(tag in first.tags for tag in PLACES):
        return False
    if first.is_ome:
        return tiff_guard.ome_planes(tiff_guard.ome_pixels(first.description)) > 1
    if first.is_imagej:
        counts = file.imagej_metadata or {}
        return any(int(counts.get(name, 1)) > 1 for name in ("images", "slices", "channels"))
    if first.is_shaped and str(first.shaped_description).startswith("{"):
        claimed = json.loads(str(first.shaped_description))["shape"]
        return int(prod(claimed)) > prod(first.shape)
    second = file.pages.get(1, None)
    if not isinstance(second, TiffPage):
        return False
    alike = (second.shape, second.dtype) == (first.shape, first.dtype)
    return alike and not (second.is_reduced or second.is_mask)


def open_source(path: Path, role: Role) -> ArraySource:
    """Open a TIFF as a stack of planes; images and masks are read alike."""
    with damage_is_a_case_error(path, *DAMAGE):
        tiff_guard.count_pages(path)
        with _opened(path) as file:
            _refuse_set(path, file)
            series = _only_series(path, file.series)
            axes = _axes(path, series)
            stored = _mapped(path, file, series, axes) or _paged(path, series, axes)
            grid = scaled_grid(spatial(series.shape, axes), _spacing_mm(file, axes))
            page = series.keyframe
            alpha = "S" in page.axes and bool(set(page.extrasamples[-1:]) & set(ALPHA))
    return ArraySource(path, stored, DAMAGE, grid=grid, alpha=alpha)


def _opened(path: Path) -> TiffFile:
    # Other programs' sets of files are named by their own metadata, which lead anywhere.
    return TiffFile(path, is_mmstack=False, is_ndtiff=False)


def _refuse_set(path: Path, file: TiffFile) -> None:
    if file.is_ome and file.ome_metadata:
        for other in tiff_guard.refuse_ome(path, file.ome_metadata, file.pages.first.size):
            tiff_guard.count_pages(other)


def _only_series(path: Path, found: Sequence[TiffPageSeries]) -> TiffPageSeries:
    """The image of a file; thumbnails and labels beside it are left out.

    Raises:
        CaseError: There are several.
    """
    first, *others = found
    if any(len(other) > 1 or other.size >= first.size for other in others):
        shapes = ", ".join(str(series.shape) for series in found[:4])
        raise CaseError(
            f"{path.name} holds {len(found)} images ({shapes}): one is expected.",
            "Save each as a file of its own.",
        )
    return first


def _axes(path: Path, series: TiffPageSeries) -> str:
    """Axes in segflow's letters; those of size 1 that are none of the image's become ``t``.

    Raises:
        CaseError: There are time points, or axes that are none of an image.
    """
    sizes = list(zip(series.axes, series.shape, strict=True))
    axes = ["t" if n == 1 and axis not in "YX" else _LETTERS.get(axis, axis) for axis, n in sizes]
    for place in reversed(range(len(axes))):
        if axes[place] == "?":
            axes[place] = "z" if "z" not in axes else "c"
    real = [axis for axis in axes if axis != "t"]
    if len(set(real)) < len(real) or not {"y", "x"} <= set(real) <= set("czyx"):
        remedy = "Split the time points into files of their own."
        raise CaseError(
            f"{path.name} has axes {series.axes} of {series.shape}: Z, Y and X are expected, and "
            "one axis of channels.",
            remedy if "T" in axes else "Save one volume per file.",
        )
    return "".join(axes)


_LETTERS = {"Z": "z", "Y": "y", "X": "x", "C": "c", "S": "c", "I": "?", "Q": "?"}


def _mapped(path: Path, file: TiffFile, series: TiffPageSeries, axes: str) -> StoredArray | None:
    """The series where its bytes lie one after another; None where they do not."""
    start = None if series.is_multifile else series.dataoffset
    if start is None or series.dtype.kind not in "iuf":
        return None
    dtype = series.dtype.newbyteorder(file.byteorder)
    held = path.stat().st_size - start
    if prod(series.shape) * dtype.itemsize > held:
        raise ValueError(f"{held} bytes for a stack of {series.shape}")
    voxels = np.memmap(path, dtype, "r", start, tuple(series.shape))
    return StoredArray(tuple(series.shape), dtype, axes, voxels.__getitem__)


def _paged(path: Path, series: TiffPageSeries, axes: str) -> StoredArray:
    kinds: dict[int, PageKind] = {}
    planes: list[Plane] = []
    for page in series:
        if page is None or page.keyframe is None:
            raise ValueError(f"page {len(planes)} of {len(series)} is missing")
        key = id(page.keyframe)
        kinds[key] = kinds.get(key) or page_kind(page.keyframe)
        planes.append(plane(page, kinds[key], series.dtype.itemsize))
    lead = _lead(series)
    inner = tuple(series.shape[len(lead) :])
    pages = Planes(planes, lead, inner, axes, series.dtype)
    rows, columns = planes[0].kind.segment
    sizes = {"y": min(rows, planes[0].kind.length), "x": min(columns, planes[0].kind.width)}
    chunks = tuple(sizes.get(axis, 1) for axis in axes)
    return StoredArray(tuple(series.shape), series.dtype, axes, pages.__getitem__, chunks)


def _lead(series: TiffPageSeries) -> Shape:
    """Shape of the axes that count pages: what is left of a series without those of a page.

    Raises:
        ValueError: A series is not made of whole pages.
    """
    page = [n for n in series.keyframe.shape if n > 1]
    for count in reversed(range(len(series.shape) + 1)):
        lead, inner = series.shape[:count], series.shape[count:]
        if prod(lead) == len(series) and [n for n in inner if n > 1] == page:
            return tuple(lead)
    raise ValueError(f"{len(series)} pages of {series.keyframe.shape} for {series.shape}")


def _spacing_mm(file: TiffFile, axes: str) -> list[float] | None:
    """Millimetres between voxels, (Z, Y, X) or (Y, X); None where one is not told."""
    found: dict[str, float | None] = {}
    if file.is_ome and file.ome_metadata:
        pixels = tiff_guard.ome_pixels(file.ome_metadata)
        for axis in "zyx":
            unit = MM.get(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
            size = pixels.get(f"PhysicalSize{axis.upper()}")
            found[axis] = float(size) * unit if size and unit else None
    elif file.is_imagej:
        found = _imagej_mm(file)
    spacing = [found.get(axis) for axis in "zyx" if axis in axes]
    return None if None in spacing else [float(s) for s in spacing if s is not None]


def _imagej_mm(file: TiffFile) -> dict[str, float | None]:
    meta: dict[str, Any] = file.imagej_metadata or {}
    unit = MM.get(str(meta.get("unit", "")).replace("\\u00B5", "µ"))
    found: dict[str, float | None] = {"z": abs(float(meta.get("spacing", 1.0)))}
    for axis, name in (("y", "YResolution"), ("x", "XResolution")):
        tag = file.pages.first.tags.get(name)
        pixels, units = (0, 0) if tag is None else tag.value
        found[axis] = units / pixels if pixels and units else None
    return {axis: None if n is None or unit is None else n * unit for axis, n in found.items()}
