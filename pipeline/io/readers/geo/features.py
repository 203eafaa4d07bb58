"""Polygons with a class value each, from GeoJSON and GeoPackage."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from rasterio.crs import CRS
from rasterio.errors import CRSError

from pipeline.errors import CaseError
from pipeline.io.readers.geo.crs import Bounds
from pipeline.io.readers.source import damage_is_a_case_error

DAMAGE = (
    DataSourceError,
    DataLayerError,
    FeatureError,
    FieldError,
    GeometryError,
    shapely.GEOSException,
    sqlite3.Error,
    CRSError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
)
LARGEST_TEXT = 256 * 2**20
"""Most bytes of a GeoJSON file, which has to be read whole."""
AREAS = (3, 6)
"""shapely's numbers for polygons and multipolygons."""


@dataclass(frozen=True)
class Features:
    """Polygons in the order of the file."""

    polygons: NDArray[Any]
    """Valid shapely polygons, (N,); the parts of a multipolygon follow each other."""
    values: NDArray[np.int32]
    """Class value of each, (N,)."""
    crs: str
    """Their coordinate reference system, as WKT."""


def read_features(
    path: Path, attribute: str | None, near: Callable[[str], Bounds | None]
) -> Features:
    """The polygons of a file.

    Args:
        path: GeoJSON, or a GeoPackage with one layer.
        attribute: Field that holds the class value, a whole number; None: every polygon is 1.
        near: Gives the box, in a system, outside which polygons may be left out; None: there is
            no such box.

    Raises:
        CaseError: The file is damaged, holds something other than polygons, lacks the field or a
            value in it, or does not say its coordinate reference system.
    """
    with damage_is_a_case_error(path, *DAMAGE):
        if path.suffix.lower() == ".gpkg":
            shapes, values, crs = _geopackage(path, attribute, near)
        else:
            shapes, values, crs = _geojson(path, attribute)
        drawn = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
        shapes, values = shapes[drawn], [v for v, d in zip(values, drawn, strict=True) if d]
        numbers = _whole(path, attribute, values)
        polygons, index = _polygons(path, shapes)
    return Features(polygons, numbers[index], crs)


Raw = tuple[NDArray[Any], Sequence[Any], str]
"""Shapes, class values as they stand, and the coordinate reference system as WKT."""


def _geojson(path: Path, attribute: str | None) -> Raw:
    # GDAL would take such a file for any of a dozen formats, one of which runs commands.
    if path.stat().st_size > LARGEST_TEXT:
        raise CaseError(
            f"{path.name} is more than {LARGEST_TEXT} bytes of GeoJSON.",
            "Save it as a GeoPackage, of which only what is near the image is read.",
        )
    content = json.loads(path.read_text("utf-8-sig"))
    features = content["features"] if content["type"] == "FeatureCollection" else [content]
    if any(f["type"] != "Feature" for f in features):
        raise ValueError("neither a FeatureCollection nor a Feature")
    texts = [None if f["geometry"] is None else json.dumps(f["geometry"]) for f in features]
    shapes = shapely.from_geojson(np.asarray(texts, dtype=object))
    told = [f.get("properties") or {} for f in features]
    if features:
        _require(path, attribute, list({key for properties in told for key in properties}))
    values = [1 if attribute is None else properties.get(attribute) for properties in told]
    # RFC 7946 knows longitude and latitude only; its forerunner of 2008 named the system.
    named = content["crs"]["properties"]["name"] if "crs" in content else "EPSG:4326"
    return shapes, values, CRS.from_user_input(named).to_wkt()


def _geopackage(path: Path, attribute: str | None, near: Callable[[str], Bounds | None]) -> Raw:
    layer = _only_layer(path)
    told = pyogrio.read_info(path, layer=layer)
    _require(path, attribute, list(told["fields"]))
    if told["crs"] is None or "undefined" in told["crs"].lower():
        raise CaseError(
            f"{path.name} does not say the coordinate reference system of layer {layer!r}.",
            "Set the layer's system, in QGIS for example, and save it again.",
        )
    crs = CRS.from_user_input(told["crs"]).to_wkt()
    columns = [] if attribute is None else [attribute]
    _, ids, shapes, fields = pyogrio.raw.read(
        path, layer=layer, columns=columns, force_2d=True, bbox=near(crs), return_fids=True
    )
    # The spatial index gives features in an order of its own.
    order = np.argsort(ids)
    values = np.ones(len(order), np.int64) if attribute is None else fields[0]
    return shapely.from_wkb(shapes[order]), values[order].tolist(), crs


def _only_layer(path: Path) -> str:
    """Name of the one layer that has geometry; styles and the like are tables without.

    A view is refused: what it shows is computed, perhaps without end.
    """
    with path.open("rb") as file:
        head = file.read(72)
    if head[:16] != b"SQLite format 3\0" or head[68:70] != b"GP":
        raise ValueError("not a GeoPackage")
    base = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
    try:
        views = {
            name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type='view'")
        }
    finally:
        base.close()
    if any(name.lower().startswith("gpkg_") for name in views):
        raise ValueError("its tables of contents are views")
    layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
    if len(layers) != 1 or layers[0] in views:
        raise CaseError(
            f"{path.name} has the layers {', '.join(layers) or '(none)'}: one table is expected.",
            "Save the layer of labels as a file of its own.",
        )
    return str(layers[0])


def _require(path: Path, attribute: str | None, fields: Sequence[str]) -> None:
    if attribute is not None and attribute not in fields:
        listed = ", ".join(sorted(fields)) or "(none)"
        raise CaseError(
            f"{path.name} has no field {attribute!r}: its fields are {listed}.",
            "Name the field that holds the class in data.mask_attribute.",
        )


def _whole(path: Path, attribute: str | None, values: Sequence[Any]) -> NDArray[np.int32]:
    """Class values as numbers."""
    odd = [v for v in values if not _is_whole(v)]
    if odd:
        raise CaseError(
            f"{path.name} has {str(odd[0])[:50]!r} in the field {attribute!r}: whole numbers of "
            "at most 32 bits are expected, one for every polygon.",
            "Number the classes in that field, or name another in data.mask_attribute.",
        )
    return np.asarray([int(v) for v in values], np.int32)


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    limits = np.iinfo(np.int32)
    return limits.min <= value <= limits.max and value == int(value)


def _polygons(path: Path, shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Shapes taken apart into valid polygons, and which shape each is of."""
    kinds = {shape.geom_type for shape in shapes[~np.isin(shapely.get_type_id(shapes), AREAS)]}
    if kinds:
        raise CaseError(
            f"{path.name} holds {', '.join(sorted(kinds))}: polygons are expected.",
            "Draw the labels as areas, or buffer points and lines to their true width.",
        )
    parts, index = shapely.get_parts(shapely.force_2d(shapes), return_index=True)
    # Lines and points are left over where a ring runs back on itself.
    valid, whole = shapely.get_parts(shapely.make_valid(parts), return_index=True)
    single, part = shapely.get_parts(valid, return_index=True)
    areas = shapely.get_type_id(single) == AREAS[0]
    return single[areas], index[whole[part[areas]]]
