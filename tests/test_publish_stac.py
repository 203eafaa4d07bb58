"""Beside published scenes stand STAC items: valid, walkable, and the same while a mask is."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import validate_dict
from rasterio.warp import transform_bounds

from pipeline.io.files import write_jsonl
from pipeline.io.manifest import ManifestRow, write_manifest
from pipeline.model_file import read_card
from pipeline.publish import PublishSettings, plan_publish, publish
from pipeline.publish.stac import item_name
from pipeline.space import Grid
from tests.conftest import SERIAL, times
from tests.export.scenes import blobs, scene_grid, write_mask, write_objects
from tests.trained import small_plan, write_model

NAMES = ("background", "liver", "tumour")


class Masks:
    """A model's masks, and the versions published of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.card = read_card(write_model(folder, small_plan(2)))
        self.rows: list[ManifestRow] = []
        write_jsonl(folder / "quarantine.jsonl", [])

    def predict(self, case: str, grid: Grid | None = None, seed: int = 0) -> Path:
        """Put a mask among the model's."""
        labels = blobs((30, 40), classes=3, seed=seed)
        row = ManifestRow(case, case, "test", None, "complete", "volume-key", f"{case}.zarr")
        self.rows = [*(r for r in self.rows if r.id != case), row]
        place = self.folder / "masks" / f"{case}.zarr"
        return write_mask(place, labels, grid, names=NAMES, key=f"key {case} {seed}")

    def publish(self, scores: dict[str, Any] | None = None) -> Path:
        """Make the masks the current version; give its folder."""
        write_manifest(self.folder / "manifest.jsonl", self.rows)
        published = self.folder / "published"
        planned = plan_publish(
            SERIAL,
            run_name="amazon",
            card=self.card,
            manifest=self.folder / "manifest.jsonl",
            quarantine=self.folder / "quarantine.jsonl",
            masks=self.folder / "masks",
            folder=published,
        )
        return publish(PublishSettings(), planned, folder=published, scores=scores)


@pytest.fixture
def masks(tmp_path: Path) -> Masks:
    """A model without masks."""
    return Masks(tmp_path)


def valid(thing: pystac.STACObject) -> Sequence[Any]:
    """Validate against STAC's own schema, which pystac has; those of extensions are online."""
    value = thing.to_dict(include_self_link=False)
    return validate_dict(value, extensions=[])


def test_pystac_walks_from_the_collection_to_valid_items_and_their_stores(masks: Masks) -> None:
    masks.predict("a", scene_grid((30, 40)))
    write_objects(
        masks.predict("b", scene_grid((30, 40), "EPSG:4326", (-60, -3), (1e-3, -1e-3))),
        np.ones((30, 40)),
    )
    folder = masks.publish({"mean": {}})
    collection = pystac.Collection.from_file(str(folder / "collection.json"))
    assert valid(collection)
    items = {item.id: item for item in collection.get_items()}
    assert items.keys() == {"a", "b"}
    for item in items.values():
        assert valid(item)
        assert item.get_collection().id == item.collection_id == "amazon"
        assert Path(item.assets["mask"].get_absolute_href()).resolve() == folder / f"{item.id}.zarr"
        for asset in item.assets.values():
            assert (Path(asset.get_absolute_href()) / "zarr.json").is_file()
            assert asset.media_type == "application/vnd+zarr; version=3"
    assert items["b"].assets.keys() == {"mask", "objects"}
    assert {a.href for a in collection.assets.values()} == {"./index.json", "./scores.json"}
    assert collection.extra_fields["version"] == "v0001"
    bounds = shapely.total_bounds([shapely.geometry.shape(i.geometry) for i in items.values()])
    assert collection.extent.spatial.bboxes == [pytest.approx(list(bounds))]


def test_an_item_says_where_the_mask_is_and_what_it_holds(masks: Masks) -> None:
    masks.predict("a", scene_grid((30, 40)))
    folder = masks.publish()
    item = pystac.Item.from_file(str(folder / "a.json"))
    projection = ProjectionExtension.ext(item)
    assert (projection.code, projection.shape) == ("EPSG:32633", [30, 40])
    transform = rasterio.Affine(*projection.transform)
    assert transform == rasterio.Affine(10.0, 0.0, 499_980.3, 0.0, -10.0, 5_300_040.7)
    bounds = rasterio.transform.array_bounds(30, 40, transform)
    assert item.bbox == pytest.approx(
        transform_bounds(32633, 4326, *bounds, densify_pts=99), abs=2e-7
    )
    outline = shapely.geometry.shape(item.geometry)
    assert outline.exterior.is_ccw and outline.bounds == pytest.approx(item.bbox)
    classes = item.assets["mask"].extra_fields["classification:classes"]
    assert [(c["value"], c["name"]) for c in classes] == list(enumerate(NAMES))
    assert item.assets["mask"].extra_fields["nodata"] == 255
    index = json.loads((folder / "index.json").read_text())
    assert item.properties["segflow:model"] == "unet-0123456789"
    assert item.properties["segflow:run"] == "amazon"
    assert item.properties["segflow:datetime_is"] == "publication"
    assert item.datetime.isoformat() == index["created"]


def test_a_mask_that_stays_keeps_its_item_and_a_new_one_gets_its_own(masks: Masks) -> None:
    masks.predict("a", scene_grid((30, 40)))
    masks.predict("b", scene_grid((30, 40)))
    first = masks.publish()
    masks.predict("b", scene_grid((30, 40)), seed=1)
    second = masks.publish()
    assert (first / "a.json").samefile(second / "a.json")
    assert not (first / "b.json").samefile(second / "b.json")
    told = [json.loads((f / "b.json").read_text())["properties"] for f in (first, second)]
    assert [p["segflow:mask_key"] for p in told] == ["key b 0", "key b 1"]
    assert (
        pystac.Collection.from_file(str(second / "collection.json")).extra_fields["version"]
        == "v0002"
    )


def test_publishing_what_stands_already_touches_nothing(masks: Masks) -> None:
    masks.predict("a", scene_grid((30, 40)))
    folder = masks.publish()
    before = times(folder.parent)
    assert masks.publish() == folder and times(folder.parent) == before


def test_pictures_have_no_items_and_no_collection(masks: Masks) -> None:
    masks.predict("a")
    folder = masks.publish()
    assert sorted(p.name for p in folder.iterdir()) == ["a.zarr", "index.json"]


def test_a_scene_over_the_date_line_has_two_parts(masks: Masks) -> None:
    grid = scene_grid((30, 40), "EPSG:32660", (700_000.0, 1_000_000.0), (10_000.0, -10_000.0))
    masks.predict("a", grid)
    masks.predict("b", scene_grid((30, 40), "EPSG:4326", (179.98, 0.0), (1e-3, -1e-3)))
    folder = masks.publish()
    for case in "ab":
        item = pystac.Item.from_file(str(folder / f"{case}.json"))
        assert valid(item)
        outline = shapely.geometry.shape(item.geometry)
        assert outline.geom_type == "MultiPolygon" and outline.is_valid
        west, _, east, _ = item.bbox
        assert west > 175 and east < -170
    collection = pystac.Collection.from_file(str(folder / "collection.json"))
    (box,) = collection.extent.spatial.bboxes
    assert (box[0], box[2]) == (-180, 180)


def test_a_system_without_a_code_is_told_as_wkt(masks: Masks) -> None:
    masks.predict("a", scene_grid((30, 40), "+proj=laea +lat_0=47 +lon_0=14 +units=m"))
    item = pystac.Item.from_file(str(masks.publish() / "a.json"))
    assert item.properties["proj:code"] is None
    assert item.properties["proj:wkt2"].startswith("PROJCRS[")
    assert valid(item)


def test_a_scene_that_is_nowhere_on_earth_is_published_without_an_item(
    masks: Masks, caplog: pytest.LogCaptureFixture
) -> None:
    masks.predict("a", scene_grid((30, 40), "EPSG:32633", (1e15, 1e15)))
    with caplog.at_level(logging.WARNING):
        folder = masks.publish()
    assert sorted(p.name for p in folder.iterdir()) == ["a.zarr", "index.json"]
    assert "a has no STAC item: no longitude and latitude" in caplog.text


@pytest.mark.parametrize("case", ["index", "collection", "scores"])
def test_a_case_called_like_a_file_of_the_version_takes_no_place_of_it(
    masks: Masks, case: str
) -> None:
    masks.predict(case, scene_grid((30, 40)))
    folder = masks.publish({"mean": {}})
    assert json.loads((folder / "index.json").read_text())["run"] == "amazon"
    collection = pystac.Collection.from_file(str(folder / "collection.json"))
    assert [item.id for item in collection.get_items()] == [case]
    assert (folder / item_name(case)).is_file()
