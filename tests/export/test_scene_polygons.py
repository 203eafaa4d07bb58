"""Polygons are the mask's regions: burnt back they give the mask, however it was cut to blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import features
from scipy import ndimage

from pipeline.errors import CaseError
from pipeline.export import geojson, geopackage
from pipeline.export.case import Export
from pipeline.export.georeference import gdal_transform
from pipeline.export.outlines import Block, trace
from pipeline.export.polygons import outlines_of, shapes
from pipeline.io.companion_store import Companion, ObjectStore
from pipeline.space import Grid, Window
from tests.export.scenes import blobs, export_of, scene_grid, write_mask, write_objects

CORNERED = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1], [1, 1, 1, 1]], np.uint8)
"""Pixels that touch by corners alone, in holes and outside."""


def reader(labels: np.ndarray) -> Callable[[Window], Block]:
    """Give blocks of an array; a pixel's area is 2."""
    return lambda w: Block(labels[w.slices], np.full((1, 1), 2.0), np.zeros((1, 1)))


def traced(labels: np.ndarray, side: int) -> list[tuple[Any, int, int, float]]:
    """Polygon, label, pixels and area of each region."""
    rows: list[tuple[Any, int, int, float]] = []
    for found in trace(labels.shape, reader(labels), side):
        polygons = shapes(found.rings.corners[:, ::-1].astype(float), found.rings)
        regions = found.regions
        columns = (regions.label, regions.pixels, regions.area)
        rows += zip(polygons, *(c.tolist() for c in columns), strict=True)
    return rows


def burnt(rows: list[tuple[Any, int]], shape: tuple[int, ...], transform: Any = None) -> np.ndarray:
    """Polygons as pixels; no pixel may be in two."""
    transform = rasterio.Affine.identity() if transform is None else transform
    if not rows:
        return np.zeros(shape, np.uint8)
    options: dict[str, Any] = {"out_shape": shape, "transform": transform, "dtype": np.int32}
    labels = features.rasterize(rows, **options)
    added = features.rasterize(
        [(p, 1) for p, _ in rows], merge_alg=rasterio.enums.MergeAlg.add, **options
    )
    assert added.max() <= 1
    return labels


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    cells = draw(st.lists(st.integers(0, 2), min_size=shape[0] * shape[1], max_size=144))
    return np.array(cells[: shape[0] * shape[1]], np.uint8).reshape(shape)


@settings(max_examples=40)
@given(labels=masks(), side=st.integers(1, 13))
def test_polygons_burnt_back_give_the_mask_for_any_blocks(labels: np.ndarray, side: int) -> None:
    rows = traced(labels, side)
    assert (burnt([(p, v) for p, v, _, _ in rows], labels.shape) == labels).all()
    assert len(rows) == sum(ndimage.label(labels == value)[1] for value in (1, 2))
    for polygon, _, pixels, area in rows:
        assert shapely.is_valid(polygon), shapely.is_valid_reason(polygon)
        assert polygon.area == pixels and area == 2 * pixels


@settings(max_examples=40)
@given(labels=masks(), side=st.integers(1, 13))
def test_polygons_are_those_that_gdal_finds_in_the_whole(labels: np.ndarray, side: int) -> None:
    found = {(shapely.normalize(p).wkt, v) for p, v, _, _ in traced(labels, side)}
    whole = features.shapes(labels.astype(np.int32), labels > 0, connectivity=4)
    # GDAL leaves corners on straight lines now and then.
    theirs = {(shapely.normalize(shapely.geometry.shape(p)).simplify(0), int(v)) for p, v in whole}
    assert {(shapely.normalize(p).wkt, v) for p, v in theirs} == found


def test_what_touches_by_a_corner_is_two_polygons_or_a_hole() -> None:
    rows = traced(CORNERED, 2)
    assert all(shapely.is_valid(p) for p, *_ in rows)
    assert [(p.area, len(p.interiors)) for p, *_ in rows] == [(1, 0), (11, 1)]
    assert (burnt([(p, v) for p, v, _, _ in rows], CORNERED.shape) == CORNERED).all()


def test_no_corner_lies_on_a_straight_line_where_blocks_meet() -> None:
    ((polygon, *_),) = traced(np.ones((9, 14), np.uint8), 4)
    assert len(polygon.exterior.coords) == 5 and not polygon.interiors


def back(found: Export, path: Path) -> np.ndarray:
    """A file's polygons as pixels of the mask."""
    _, _, geometry, (_, label, *_) = pyogrio.raw.read(path)
    rows = list(zip(shapely.from_wkb(geometry), label.tolist(), strict=True))
    transform = rasterio.Affine(*gdal_transform(found.grid))
    return burnt(rows, found.grid.shape, transform if found.grid.crs else None)


def scene(tmp_path: Path, grid: Grid | None = None, **more: Any) -> tuple[Export, np.ndarray]:
    """A mask of several blocks with a corner of no data."""
    labels = blobs((1100, 1300), coarse=60)
    labels[:90, :80] = 255
    grid = grid or scene_grid(labels.shape)
    mask = write_mask(tmp_path / "a.zarr", labels, grid, **more)
    return export_of(mask, tmp_path / "out" / "a"), labels


def test_geopackage_keeps_the_scenes_system_and_every_pixel(tmp_path: Path) -> None:
    found, labels = scene(tmp_path)
    path = found.target.with_suffix(".gpkg")
    geopackage.write(export_of(found.mask.path, path))
    about, _, geometry, fields = pyogrio.raw.read(path)
    assert (about["crs"], about["geometry_type"]) == ("EPSG:32633", "Polygon")
    assert list(about["fields"]) == ["class", "label", "pixels", "area_m2"]
    assert (back(found, path) == np.where(labels == 255, 0, labels)).all()
    polygons = shapely.from_wkb(geometry)
    assert np.allclose(shapely.area(polygons), fields[3], rtol=1e-9)
    assert (fields[3] == 100 * fields[2]).all()
    assert set(zip(fields[1].tolist(), fields[0].tolist(), strict=True)) == {
        (1, "forest"),
        (2, "water & ice"),
        (3, "town"),
    }
    assert pyogrio.read_info(path)["layer_metadata"]["SEGFLOW_MODEL"] == "unet-0123456789"
    assert len(geometry) == sum(ndimage.label(labels == value)[1] for value in (1, 2, 3))


def test_geojson_of_degrees_gives_every_pixel_back(tmp_path: Path) -> None:
    step = 8.983152841195215e-05
    grid = scene_grid((1100, 1300), "EPSG:4326", (-60.1234567, -3.7), (step, -step))
    found, labels = scene(tmp_path, grid)
    path = found.target.with_suffix(".geojson")
    geojson.write(export_of(found.mask.path, path))
    assert (back(found, path) == np.where(labels == 255, 0, labels)).all()
    value = json.loads(path.read_text())
    assert value["segflow"]["SEGFLOW_CASE"] == "a" and "crs" not in value


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32633", "EPSG:6933"])
def test_areas_are_those_of_the_ellipsoid(tmp_path: Path, crs: str) -> None:
    origin, step = {
        "EPSG:4326": ((15.0, 66.0), (2e-4, -1e-4)),
        "EPSG:3857": ((1_669_792.0, 9_900_000.0), (20.0, -20.0)),
        "EPSG:32633": ((499_980.0, 7_300_040.0), (10.0, -10.0)),
        "EPSG:6933": ((1_447_000.0, 6_600_000.0), (10.0, -10.0)),
    }[crs]
    found, _ = scene(tmp_path, scene_grid((1100, 1300), crs, origin, step))
    path = found.target.with_suffix(".geojson")
    geojson.write(export_of(found.mask.path, path))
    _, _, geometry, fields = pyogrio.raw.read(path)
    earth = pyproj.Geod(ellps="WGS84")
    true = [abs(earth.geometry_area_perimeter(p)[0]) for p in shapely.from_wkb(geometry)]
    # UTM shrinks areas by 0.08 % on its central meridian, and is taken at its word; edges along
    # parallels are no geodesics, which pyproj takes them for.
    assert np.allclose(fields[3], true, rtol=1e-3 if crs == "EPSG:32633" else 2e-4)


def test_geojson_follows_long_edges_on_their_way_to_degrees(tmp_path: Path) -> None:
    labels = np.ones((30, 1500), np.uint8)
    grid = scene_grid(labels.shape, step=(1000.0, -1000.0), origin=(-200_000.0, 7_300_000.0))
    found = export_of(write_mask(tmp_path / "a.zarr", labels, grid), tmp_path / "out" / "a.geojson")
    geojson.write(found)
    ((polygon,),) = (shapely.from_wkb(g) for g in [pyogrio.raw.read(found.target)[2]])
    to_degrees = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform
    middle = shapely.Point(to_degrees(-200_000.0 + 777_000, 7_300_000.0 - 15_000))
    edge = shapely.Point(to_degrees(-200_000.0 + 777_000, 7_300_000.0))
    assert polygon.contains(middle)
    # Straight from end to end the edge would pass 30 km away.
    assert polygon.exterior.distance(edge) < 1e-3
    assert polygon.exterior.is_ccw


def test_what_lies_over_the_date_line_is_cut_there(tmp_path: Path) -> None:
    labels = np.ones((40, 60), np.uint8)
    grid = scene_grid(labels.shape, "EPSG:32660", (700_000.0, 1_000_000.0), (10_000.0, -10_000.0))
    found = export_of(write_mask(tmp_path / "a.zarr", labels, grid), tmp_path / "out" / "a.geojson")
    geojson.write(found)
    ((several,),) = (shapely.from_wkb(g) for g in [pyogrio.raw.read(found.target)[2]])
    assert shapely.is_valid(several) and several.geom_type == "MultiPolygon"
    west, east = sorted(several.geoms, key=lambda part: part.bounds[0])
    assert west.bounds[0] == -180 and west.bounds[2] < -170
    assert east.bounds[0] > 170 and east.bounds[2] == 180


def test_a_picture_gives_polygons_in_pixels(tmp_path: Path) -> None:
    labels = blobs((60, 70))
    found = export_of(write_mask(tmp_path / "a.zarr", labels), tmp_path / "out" / "a.geojson")
    geojson.write(found)
    about, *_ = pyogrio.raw.read(found.target)
    assert list(about["fields"]) == ["class", "label", "pixels"]
    assert (back(found, found.target) == labels).all()
    path = found.target.with_suffix(".gpkg")
    geopackage.write(export_of(found.mask.path, path))
    assert (back(found, path) == labels).all()


def test_polygons_name_the_object_that_is_kept_beside_the_mask(tmp_path: Path) -> None:
    labels = blobs((1100, 1300), coarse=60)
    mask = write_mask(tmp_path / "a.zarr", labels, scene_grid(labels.shape))
    numbers = np.zeros(labels.shape, np.uint32)
    for value in (1, 2, 3):
        parts, _ = ndimage.label(labels == value, np.ones((3, 3)))
        numbers += np.where(parts, parts + numbers.max(), 0).astype(np.uint32)
    write_objects(mask, numbers)
    objects = ObjectStore(Companion.objects().path(mask))
    found = export_of(mask, tmp_path / "out" / "a.gpkg", objects=objects)
    geopackage.write(found)
    _, _, geometry, fields = pyogrio.raw.read(found.target)
    rows = list(zip(shapely.from_wkb(geometry), fields[4].tolist(), strict=True))
    transform = rasterio.Affine(*gdal_transform(found.grid))
    assert (burnt(rows, labels.shape, transform) == numbers).all()


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_mask_of_background_alone_gives_an_empty_file(tmp_path: Path, suffix: str) -> None:
    labels = np.zeros((30, 40), np.uint8)
    mask = write_mask(tmp_path / "a.zarr", labels, scene_grid(labels.shape))
    found = export_of(mask, tmp_path / "out" / f"a{suffix}")
    (geopackage if suffix == ".gpkg" else geojson).write(found)
    assert pyogrio.read_info(found.target)["features"] == 0


def test_classes_without_a_background_are_all_traced(tmp_path: Path) -> None:
    labels = blobs((60, 70), classes=2)
    grid = scene_grid(labels.shape)
    mask = write_mask(
        tmp_path / "a.zarr", labels, grid, names=("field", "forest"), background=False
    )
    found = export_of(mask, tmp_path / "out" / "a.gpkg")
    geopackage.write(found)
    _, _, geometry, fields = pyogrio.raw.read(found.target)
    assert set(fields[0]) == {"field", "forest"} and fields[2].sum() == labels.size
    assert shapely.area(shapely.union_all(shapely.from_wkb(geometry))) == pytest.approx(420_000)


def test_numbers_and_volumes_have_no_polygons(tmp_path: Path) -> None:
    heights = write_mask(tmp_path / "h.zarr", np.ones((9, 9)), scene_grid((9, 9)), target="height")
    with pytest.raises(CaseError, match=r"it holds numbers \(height\), and a file of polygons"):
        geojson.write(export_of(heights, tmp_path / "out" / "h.geojson"))
    volume = write_mask(tmp_path / "v.zarr", blobs((5, 6, 7)))
    with pytest.raises(CaseError, match="it is a volume .* Export it as nifti"):
        geopackage.write(export_of(volume, tmp_path / "out" / "v.gpkg"))


def test_real_tiles_and_a_mosaic_of_them_come_back_pixel_by_pixel(
    tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    from PIL import Image

    paths = sorted((real_data("amazon_forest") / "masks").glob("*.png"))[:4]
    tiles = [np.asarray(Image.open(path))[:512, :512] - 1 for path in paths]
    labels = np.block([[tiles[0], tiles[1]], [tiles[2], tiles[3]]]).repeat(2, 0).repeat(2, 1)
    mask = write_mask(tmp_path / "a.zarr", labels, scene_grid(labels.shape))
    found = export_of(mask, tmp_path / "out" / "a.gpkg")
    regions = sum(len(outlines.regions.label) for outlines in outlines_of(found))
    assert regions == sum(ndimage.label(labels == value)[1] for value in (1, 2, 3))
    geopackage.write(found)
    assert (back(found, found.target) == labels).all()
