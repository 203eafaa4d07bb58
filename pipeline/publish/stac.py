"""STAC beside published scenes: what they are and where, for catalogues and their browsers.

v0007/
  collection.json    the run's masks: how far they reach, the items, the version
  <case>.json        an item per mask that has a place on Earth; the mask store is its asset

All links are relative, so that a version may be moved or served as it is. A mask that stays the
same keeps its item, date and all. STAC 1.1.0 with its projection, classification, processing and
version extensions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pystac

from pipeline.io.files import read_json, write_json
from pipeline.io.ngff import LabelClass
from pipeline.io.readers.geo.crs import code_of, wkt2_of
from pipeline.io.readers.geo.footprint import footprint
from pipeline.io.store import published_attributes
from pipeline.publish.version import INDEX, PublishedMask, Version
from pipeline.space import Grid

logger = logging.getLogger(__name__)
COLLECTION, SCORES = "collection.json", "scores.json"
EXTENSIONS = "https://stac-extensions.github.io"
ITEM_EXTENSIONS = [
    f"{EXTENSIONS}/projection/v2.0.0/schema.json",
    f"{EXTENSIONS}/classification/v2.0.0/schema.json",
    f"{EXTENSIONS}/processing/v1.2.0/schema.json",
]
COLLECTION_EXTENSIONS = [f"{EXTENSIONS}/version/v1.2.0/schema.json"]
ZARR = "application/vnd+zarr; version=3"
ABOUT = {"objects": "Connected regions of one class", "probabilities": "Class probabilities"}


def item_name(case: str) -> str:
    """File name of a case's item.

    Example:
        >>> item_name("tile_1"), item_name("index")
        ('tile_1.json', 'index.item.json')
    """
    name = f"{case}.json"
    return f"{case}.item.json" if name in (INDEX, SCORES, COLLECTION) else name


def write_item(folder: Path, mask: PublishedMask, version: Version) -> None:
    """Write the item of a mask; nothing of one that has no place on Earth.

    Args:
        folder: Of the version; the mask is there.
        mask: Of the version.
        version: Its creation is the item's date, because a source's own is not known.
    """
    about = published_attributes(folder / f"{mask.case}.zarr")
    grid = Grid.from_json(about["grid"])
    if grid.crs is None or len(grid.shape) != 2:
        return
    place = footprint(grid)
    if place is None:
        logger.warning("%s has no STAC item: no longitude and latitude", mask.case)
        return
    item = pystac.Item(
        mask.case,
        place.geometry,
        list(place.bbox),
        datetime.fromisoformat(version.created),
        {**_properties(mask, version, about), **_projection(grid)},
        stac_extensions=ITEM_EXTENSIONS,
        collection=version.run,
        assets=_assets(mask, about),
    )
    for relation in ("root", "parent", "collection"):
        item.add_link(_link(relation, COLLECTION, pystac.MediaType.JSON))
    write_json(folder / item_name(mask.case), item.to_dict(include_self_link=False))


def _properties(mask: PublishedMask, version: Version, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "created": version.created,
        "segflow:datetime_is": "publication",
        "segflow:run": version.run,
        "segflow:model": about["model"]["id"],
        "segflow:weights_sha256": about["model"]["weights_sha256"],
        "segflow:mask_key": mask.key,
        "segflow:split": mask.split,
        "processing:software": about["versions"],
    }


def _projection(grid: Grid) -> dict[str, Any]:
    """The scene's grid, in the words of STAC's projection extension."""
    assert grid.crs is not None
    code = code_of(grid.crs)
    (a_y, a_x, a_0), (b_y, b_x, b_0), _ = grid.cornered.affine
    return {
        "proj:code": code,
        **({} if code else {"proj:wkt2": wkt2_of(grid.crs)}),
        "proj:shape": list(grid.shape),
        "proj:transform": [a_x, a_y, a_0, b_x, b_y, b_0],
    }


def _assets(mask: PublishedMask, about: Mapping[str, Any]) -> dict[str, pystac.Asset]:
    told: dict[str, Any] = {"nodata": "nan" if about["nodata"] == "NaN" else about["nodata"]}
    if classes := about.get("classes"):
        told["classification:classes"] = [_class(name, label) for name, label in classes.items()]
    store = f"./{mask.case}.zarr"
    title = about.get("target") or "Mask"
    assets = {"mask": pystac.Asset(store, title, None, ZARR, ["data"], told)}
    for name in mask.companions:
        place = f"./{name}/{mask.case}.zarr"
        assets[name] = pystac.Asset(place, ABOUT[name], None, ZARR, ["data"])
    return assets


def _class(name: str, label: int) -> dict[str, Any]:
    # Names are of letters, digits, - and _ alone; the title has the others.
    plain = re.sub(r"[^0-9A-Za-z_-]+", "_", name).strip("_") or f"class_{label}"
    colour = "".join(f"{part:02X}" for part in LabelClass(label, name).color)
    return {"value": label, "name": plain, "title": name, "color_hint": colour}


def write_collection(folder: Path, version: Version) -> None:
    """Write the collection of a version's items; nothing where there is none."""
    names = [item_name(mask.case) for mask in version.masks]
    found = {name: read_json(folder / name) for name in names if (folder / name).is_file()}
    if not found:
        return
    collection = pystac.Collection(
        version.run,
        f"Masks of the run {version.run}, by segflow's model {version.model['id']}.",
        _extent(list(found.values())),
        stac_extensions=COLLECTION_EXTENSIONS,
        extra_fields={"version": version.name},
        license="other",
        assets={"index": pystac.Asset(f"./{INDEX}", "What changed", None, pystac.MediaType.JSON)},
    )
    if (folder / SCORES).is_file():
        scores = pystac.Asset(f"./{SCORES}", "Scores", None, pystac.MediaType.JSON, ["metadata"])
        collection.add_asset("scores", scores)
    collection.clear_links()
    collection.add_link(_link("root", COLLECTION, pystac.MediaType.JSON))
    for name in found:
        collection.add_link(_link("item", name, pystac.MediaType.GEOJSON))
    value = collection.to_dict(include_self_link=False, transform_hrefs=False)
    write_json(folder / COLLECTION, value)


def _extent(items: Sequence[Mapping[str, Any]]) -> pystac.Extent:
    """How far items reach, in space and time."""
    west, south, east, north = zip(*(item["bbox"] for item in items), strict=True)
    if any(w > e for w, e in zip(west, east, strict=True)):  # one lies over the date line
        west, east = (-180.0,), (180.0,)
    box = [min(west), min(south), max(east), max(north)]
    times = [datetime.fromisoformat(item["properties"]["datetime"]) for item in items]
    span: list[list[datetime | None]] = [[min(times), max(times)]]
    return pystac.Extent(pystac.SpatialExtent([box]), pystac.TemporalExtent(span))


def _link(relation: str, name: str, media_type: str) -> pystac.Link:
    return pystac.Link(relation, f"./{name}", media_type)
