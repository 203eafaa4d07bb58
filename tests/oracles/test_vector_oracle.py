"""Vector labels as rasterio burns them, and as points in polygons say."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.features import rasterize
from shapely.geometry import mapping

from pipeline.errors import CaseError
from pipeline.io.origin import VECTORS
from pipeline.io.readers.geo import features
from pipeline.io.readers.geo.crs import to_crs
from pipeline.io.readers.geo.raster import open_source
from pipeline.io.readers.geo.vector import open_labels
from pipeline.space import Grid, Window, voxel_grid
from pipeline.space.grid import as_affine

UTM33 = rasterio.CRS.from_epsg(32633)
WGS84 = rasterio.CRS.from_epsg(4326)
NORTH_UP = rasterio.Affine(10, 0, 500_000, 0, -10, 5_300_000)
ROTATED = rasterio.Affine(8, 6, 500_000, 6, -8, 5_300_000)


def scene(shape, transform=NORTH_UP, crs=UTM33):
    t = transform
    affine = as_affine([[t.b, t.a, t.c], [t.e, t.d, t.f], [0, 0, 1]])
    return Grid(shape, affine, "meter", crs.to_wkt(), "corner")


def transform_of(grid):
    (a_y, a_x, a_0), (b_y, b_x, b_0), _ = grid.affine
    return rasterio.Affine(a_x, a_y, a_0, b_x, b_y, b_0)


def blobs(grid, count, seed=0, radius=40):
    """Give ragged polygons with holes, some of them multipolygons, over a grid and its edges."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        centre = random.uniform(-10, np.asarray(grid.shape) + 10)
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(5, 30)))
        reach = random.uniform(1, radius) * random.uniform(0.4, 1, angles.shape)
        index = centre + np.stack([reach * np.cos(angles), reach * np.sin(angles)], -1)
        outer = shapely.make_valid(shapely.Polygon(grid.index_to_world(index)))
        hole = shapely.Polygon(grid.index_to_world(centre + (index - centre) * 0.5))
        made.append(shapely.make_valid(outer.difference(shapely.make_valid(hole))))
    areas = [shapely.union_all([p for p in shapely.get_parts(m) if p.area > 0]) for m in made]
    return [a for a in areas if a.geom_type in ("Polygon", "MultiPolygon") and not a.is_empty]


def geojson(path, shapes, values=None, crs=None, key="class"):
    values = range(1, len(shapes) + 1) if values is None else values
    content = {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": None if g is None else mapping(g),
                "properties": {key: v, "note": "x"},
            }
            for g, v in zip(shapes, values, strict=True)
        ],
    }
    if crs is not None:
        name = f"urn:ogc:def:crs:EPSG::{crs.to_epsg()}"
        content["crs"] = {"type": "name", "properties": {"name": name}}
    path.write_text(json.dumps(content))
    return path


def geopackage(path, shapes, values=None, crs=UTM33, key="class", layer="labels", **options):
    values = range(1, len(shapes) + 1) if values is None else values
    kinds = {g.geom_type for g in shapes if g is not None}
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.asarray(shapes, object)),
        [np.asarray(list(values))],
        [key],
        layer=layer,
        driver="GPKG",
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        crs=crs and crs.to_wkt(),
        **options,
    )
    return path


WRITERS = {"geojson": lambda p, *a, **k: geojson(p, *a, crs=UTM33, **k), "gpkg": geopackage}


def whole(source):
    return source.read(Window.whole(source.grid.shape)).array[0]


def by_rasterio(shapes, values, grid):
    pairs = list(zip(shapes, values, strict=True))
    return rasterize(pairs, grid.shape, transform=transform_of(grid), dtype="int32")


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED], ids=["north-up", "rotated"])
def test_polygons_are_burnt_as_rasterio_burns_them_at_once(tmp_path, suffix, transform):
    grid = scene((700, 1100), transform)
    shapes = blobs(grid, 80)
    path = WRITERS[suffix](tmp_path / f"a.{suffix}", shapes)
    source = open_labels(path, grid, "class")
    expected = by_rasterio(shapes, range(1, len(shapes) + 1), grid)
    np.testing.assert_array_equal(whole(source), expected)
    assert (expected > 0).mean() > 0.03
    windows = [Window((y, 0), (90, 1100)) for y in range(0, 600, 50)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(source.read, windows))
    for window, part in zip(windows, parts, strict=True):
        np.testing.assert_array_equal(part.array[0], expected[window.slices])
    everything = open_labels(path, grid, None)
    np.testing.assert_array_equal(whole(everything), expected > 0)
    assert source.grid == grid and source.placed and source.dtype == np.int32
    assert source.channels == 1 and not source.sequential and source.block == (512, 512)
    assert path.suffix in VECTORS


@cache
def burnt():
    """Give polygons, many of whose edges run through pixel centres, on a grid, and all of it."""
    grid = scene((1100, 1200))
    random = np.random.default_rng(3)
    shapes = blobs(grid, 60, radius=300)
    for _ in range(60):
        corners = random.integers(0, 1200, (3, 2)) + 0.5
        shapes.append(shapely.Polygon(grid.index_to_world(corners)))
    shapes = [s for s in shapes if s.area > 0]
    with TemporaryDirectory() as folder:
        path = geojson(Path(folder) / "a.geojson", shapes, crs=UTM33)
        source = open_labels(path, grid, "class")
    return source, whole(source)


@given(data=st.data())
def test_a_window_is_a_cut_of_the_whole(data):
    source, full = burnt()
    starts = [data.draw(st.integers(0, n - 1)) for n in full.shape]
    sizes = [data.draw(st.integers(1, n - a)) for n, a in zip(full.shape, starts, strict=True)]
    window = Window(tuple(starts), tuple(sizes))
    part = source.read(window)
    np.testing.assert_array_equal(part.array[0], full[window.slices])
    assert part.grid == source.grid.cropped(window) and part.valid is None


@pytest.mark.parametrize("suffix", VECTORS)
def test_polygons_of_another_system_hold_the_pixels_whose_centres_lie_in_them(tmp_path, suffix):
    # Pixels of 150 m, so that the long edges, straight in degrees, bend by several of them.
    grid = scene((600, 700), rasterio.Affine(150, 0, 450_000, 0, -150, 5_350_000))
    inner = shapely.box(14.5, 47.7, 15.5, 48.2)
    ring = shapely.box(-20, 40, 40, 60).difference(shapely.box(14.4, 47.6, 15.7, 48.25))
    shapes = [ring, inner]
    write = geojson if suffix == ".geojson" else geopackage
    options = {} if suffix == ".geojson" else {"crs": WGS84}
    path = write(tmp_path / f"a{suffix}", shapes, [7, 3], **options)
    seen = whole(open_labels(path, grid, "class"))
    y, x = np.mgrid[:600, :700] + 0.5
    centres = grid.index_to_world(np.stack([y.ravel(), x.ravel()], -1))
    places = to_crs(centres, grid.crs, WGS84.to_wkt())
    expected = np.zeros(len(places), np.int32)
    near = np.zeros(len(places), bool)
    for shape, value in zip(shapes, (7, 3), strict=True):
        expected[shapely.contains_xy(shape, places)] = value
        # A hundredth of a pixel is about 1e-5 degrees.
        near |= shapely.dwithin(shapely.points(places), shape.boundary, 1.5e-5)
    differing = seen.ravel() != expected
    assert not differing[~near].any() and near.mean() < 1e-3
    assert {*np.unique(seen)} == {0, 3, 7}


def test_real_tiles_are_vectorised_and_burnt_back(tmp_path, real_data):
    (path,) = real_data("sen1floods11").glob("*_LabelHand.tif")
    with rasterio.open(path) as raster:
        labels = raster.read(1)
        found = list(rasterio.features.shapes(labels, transform=raster.transform))
    shapes = [shapely.geometry.shape(s) for s, _ in found]
    grid = open_source(path, "mask").grid
    written = geojson(tmp_path / "a.geojson", shapes, [int(v) for _, v in found])
    np.testing.assert_array_equal(whole(open_labels(written, grid, "class")), labels)


@pytest.mark.parametrize("suffix", WRITERS)
def test_later_features_lie_over_earlier_ones(tmp_path, suffix):
    grid = scene((100, 100))
    square = shapely.Polygon(grid.index_to_world([(10, 10), (10, 60), (60, 60), (60, 10)]))
    moved = shapely.Polygon(grid.index_to_world([(30, 30), (30, 90), (90, 90), (90, 30)]))
    path = WRITERS[suffix](tmp_path / f"a.{suffix}", [square, moved, square, moved], [1, 9, 5, 0])
    seen = whole(open_labels(path, grid, "class"))
    assert seen[20, 20] == 5 and (seen[30:90, 30:90] == 0).all() and seen.max() == 5


def test_polygons_with_many_corners_and_far_corners_are_burnt_alike(tmp_path):
    grid = scene((1200, 1300))
    turn = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    reach = 400 + 60 * np.sin(37 * turn)
    star = np.stack([600 + reach * np.sin(turn), 650 + reach * np.cos(turn)], -1)
    far = [(-3e9, -3e9), (-3e9, 2e9), (100.3, 100.1)]
    shapes = [shapely.Polygon(grid.index_to_world(p)) for p in (star, far)]
    seen = whole(open_labels(geojson(tmp_path / "a.geojson", shapes, crs=UTM33), grid, "class"))
    np.testing.assert_array_equal(seen == 1, by_rasterio(shapes[:1], [1], grid) & ~(seen == 2))
    near = shapely.Polygon(grid.index_to_world([(-1e4, -1e4), (-1e4, 2e4 / 3), (100.3, 100.1)]))
    assert (seen == 2).any() and by_rasterio([near], [1], grid).any()


def test_invalid_polygons_are_made_valid(tmp_path):
    grid = scene((40, 40))
    bow_tie = shapely.Polygon(grid.index_to_world([(5, 5), (25, 25), (5, 25), (25, 5)]))
    spike = shapely.Polygon(
        grid.index_to_world([(30, 5), (38, 5), (38, 9), (30, 9), (30, 39), (30, 9)])
    )
    assert not bow_tie.is_valid and not spike.is_valid
    path = geojson(tmp_path / "a.geojson", [bow_tie, spike], crs=UTM33)
    expected = by_rasterio([bow_tie, spike], [1, 2], grid)
    np.testing.assert_array_equal(whole(open_labels(path, grid, "class")), expected)


def test_overlapping_parts_of_a_multipolygon_are_filled(tmp_path):
    grid = scene((40, 40))
    parts = [
        shapely.Polygon(grid.index_to_world([(a, a), (a, a + 20), (a + 20, a + 20), (a + 20, a)]))
        for a in (5, 15)
    ]
    path = geojson(tmp_path / "a.geojson", [shapely.MultiPolygon(parts)], crs=UTM33)
    expected = by_rasterio(parts, [1, 1], grid)
    np.testing.assert_array_equal(whole(open_labels(path, grid, "class")), expected)


@pytest.mark.parametrize("suffix", WRITERS)
def test_features_without_shape_are_passed_over(tmp_path, suffix):
    grid = scene((40, 40))
    (shape,) = blobs(grid, 1)
    path = WRITERS[suffix](tmp_path / f"a.{suffix}", [None, shape, shapely.Polygon()], [1, 2, 3])
    assert {*np.unique(whole(open_labels(path, grid, "class")))} == {0, 2}


def test_an_empty_layer_is_background_everywhere(tmp_path):
    for path in (
        geojson(tmp_path / "a.geojson", []),
        geopackage(tmp_path / "a.gpkg", [], np.zeros(0, int)),
    ):
        assert not whole(open_labels(path, scene((40, 40)), "class")).any()


def test_polygons_elsewhere_are_background(tmp_path):
    far = [shapely.box(100, 100, 200, 200)]
    for path in (
        geojson(tmp_path / "a.geojson", far, crs=UTM33),
        geopackage(tmp_path / "a.gpkg", far),
    ):
        assert not whole(open_labels(path, scene((40, 40)), "class")).any()


@pytest.mark.parametrize(
    ("value", "said"),
    [(1.5, "1.5"), ("forest", "forest"), (None, "None"), (True, "True"), (2**31, "2147483648")],
)
def test_a_class_that_is_no_whole_number_is_refused(tmp_path, value, said):
    path = geojson(tmp_path / "a.geojson", [shapely.box(0, 0, 1, 1)], [value])
    with pytest.raises(
        CaseError, match=rf"a.geojson has '{said}' in the field 'class': whole numbers"
    ):
        open_labels(path, scene((9, 9)), "class")


def test_numbers_that_were_stored_as_reals_are_whole(tmp_path):
    grid = scene((40, 40))
    shapes = blobs(grid, 1)
    for path in (
        geojson(tmp_path / "a.geojson", shapes, [4.0], UTM33),
        geopackage(tmp_path / "a.gpkg", shapes, [4.0]),
    ):
        assert whole(open_labels(path, grid, "class")).max() == 4


def test_an_absent_field_is_refused_with_those_there_are(tmp_path):
    square = [shapely.box(0, 0, 1, 1)]
    path = geojson(tmp_path / "a.geojson", square)
    with pytest.raises(CaseError, match="has no field 'kind': its fields are class, note"):
        open_labels(path, scene((9, 9)), "kind")
    path = geopackage(tmp_path / "a.gpkg", square)
    with pytest.raises(CaseError, match="has no field 'kind': its fields are class"):
        open_labels(path, scene((9, 9)), "kind")


@pytest.mark.parametrize("suffix", WRITERS)
def test_points_and_lines_are_refused(tmp_path, suffix):
    shapes = [shapely.Point(5e5, 53e5), shapely.LineString([(5e5, 53e5), (500_100, 53e5)])]
    path = WRITERS[suffix](tmp_path / f"a.{suffix}", shapes)
    with pytest.raises(CaseError, match="holds LineString, Point: polygons are expected"):
        open_labels(path, scene((9, 9)), None)


def test_layers_are_one_and_tables_without_shapes_are_none(tmp_path):
    grid = scene((40, 40))
    shapes = blobs(grid, 1)
    path = geopackage(tmp_path / "a.gpkg", shapes)
    pyogrio.raw.write(
        path, None, [np.asarray(["x"])], ["style"], layer="layer_styles", driver="GPKG",
        geometry_type=None, crs=None, append=False,
    )  # fmt: skip
    assert whole(open_labels(path, grid, "class")).any()
    geopackage(path, shapes, layer="more")
    with pytest.raises(
        CaseError, match=r"a.gpkg has the layers labels, more: one table is expected"
    ):
        open_labels(path, grid, "class")


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_labels_or_images_without_a_system_are_refused(tmp_path):
    path = geopackage(tmp_path / "a.gpkg", [shapely.box(0, 0, 1, 1)], crs=None)
    with pytest.raises(CaseError, match="does not say the coordinate reference system of layer"):
        open_labels(path, scene((9, 9)), None)
    with pytest.raises(CaseError, match="its image has no coordinate reference system"):
        open_labels(path, voxel_grid((9, 9)), None)


def test_labels_that_cannot_be_brought_to_the_image_are_refused(tmp_path):
    polar = scene(
        (400, 400), rasterio.Affine(1e5, 0, -2e7, 0, -1e5, 2e7), rasterio.CRS.from_epsg(3857)
    )
    for corner, crs in ((95, None), (1e300, UTM33)):
        path = geojson(tmp_path / "a.geojson", [shapely.box(-170, -95, 170, corner)], crs=crs)
        grid = polar if crs is None else scene((9, 9))
        with pytest.raises(CaseError, match="reaches beyond what its image's"):
            open_labels(path, grid, None)


GEOJSONS = {
    "empty": "",
    "cut": '{"type": "FeatureCollection", "features": [{"type": "Fea',
    "a list": "[]",
    "a topology": '{"type": "Topology", "objects": {}}',
    "a pipeline": '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline"}',
    "deep": '{"type":"FeatureCollection","features":' + "[" * 100_000,
    "open ring": '{"type":"Feature","properties":{},"geometry":{"type":"Polygon",'
    '"coordinates":[[[0,0],[1,0],[1,1]]]}}',
    "no numbers": '{"type":"Feature","properties":{},"geometry":{"type":"Polygon",'
    '"coordinates":[[["a","b"],[1,0],[1,1],["a","b"]]]}}',
    "unknown system": '{"type":"FeatureCollection","features":[],'
    '"crs":{"type":"name","properties":{"name":"EPSG:999999"}}}',
}


@pytest.mark.parametrize("text", GEOJSONS.values(), ids=GEOJSONS)
def test_a_damaged_geojson_is_the_cases_fault(tmp_path, text):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(CaseError, match="a.geojson cannot be read: it is truncated or damaged"):
        open_labels(tmp_path / "a.geojson", scene((9, 9)), None)


def test_a_geojson_beyond_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "LARGEST_TEXT", 100)
    path = geojson(tmp_path / "a.geojson", [shapely.box(0, 0, 1, 1)])
    with pytest.raises(CaseError, match="is more than 100 bytes of GeoJSON"):
        open_labels(path, scene((9, 9)), None)


@pytest.mark.parametrize("keep", [0, 50, 5000, 60_000])
def test_a_damaged_geopackage_is_the_cases_fault(tmp_path, keep):
    path = geopackage(tmp_path / "a.gpkg", blobs(scene((40, 40)), 20))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CaseError, match="a.gpkg cannot be read: it is truncated or damaged"):
        open_labels(path, scene((40, 40)), None)


def test_views_which_may_never_end_are_refused(tmp_path):
    path = geopackage(tmp_path / "a.gpkg", blobs(scene((40, 40)), 3))
    base = sqlite3.connect(path)
    base.execute("ALTER TABLE labels RENAME TO other")
    base.execute("CREATE VIEW labels AS SELECT * FROM other")
    base.commit()
    with pytest.raises(CaseError, match=r"has the layers labels: one table is expected"):
        open_labels(path, scene((40, 40)), None)
    base.execute("ALTER TABLE gpkg_contents RENAME TO contents")
    base.execute("CREATE VIEW gpkg_contents AS SELECT * FROM contents")
    base.commit()
    base.close()
    with pytest.raises(CaseError, match="its tables of contents are views"):
        open_labels(path, scene((40, 40)), None)
