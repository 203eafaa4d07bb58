"""The table of objects says what scikit-image says of the whole mask."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from rasterio.transform import Affine
from scipy import ndimage
from skimage.measure import regionprops

from pipeline.errors import CaseError
from pipeline.export import objects_table
from pipeline.export.georeference import gdal_transform
from pipeline.export.objects_table import write
from pipeline.io.companion_store import Companion, ObjectStore
from pipeline.space import Grid
from pipeline.space.grid import as_affine
from tests.export.scenes import NAMES, blobs, export_of, scene_grid, write_mask, write_objects


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects lie over many blocks."""
    monkeypatch.setattr(objects_table, "SIDE", {2: 37, 3: 16})


def table(mask: Path, target: Path, **more: Any) -> list[dict[str, str]]:
    """Rows of the table of a mask."""
    write(export_of(mask, target, **more))
    with target.open(newline="") as file:
        return list(csv.DictReader(file))


def whole(labels: np.ndarray) -> np.ndarray:
    """Objects of the whole mask, connected over corners too, in the order of their first voxels."""
    numbers = np.zeros(labels.shape, np.int64)
    for value in (1, 2, 3):
        parts, _ = ndimage.label(labels == value, np.ones((3,) * labels.ndim))
        numbers += np.where(parts, parts + numbers.max(), 0)
    found, first = np.unique(numbers[numbers > 0], return_index=True)
    order = np.zeros(numbers.max() + 1, np.int64)
    order[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return order[numbers]


def floats(row: dict[str, str], names: list[str]) -> list[float]:
    """Some of a row's cells."""
    return [float(row[name]) for name in names]


def test_a_scenes_objects_are_those_of_the_whole(tmp_path: Path) -> None:
    labels = blobs((150, 170), coarse=20)
    labels[:20, :30] = 255
    grid = scene_grid(labels.shape)
    rows = table(write_mask(tmp_path / "a.zarr", labels, grid), tmp_path / "out" / "a.csv")
    props = regionprops(whole(np.where(labels == 255, 0, labels)))
    transform = Affine(*gdal_transform(grid))
    assert len(rows) == len(props)
    for row, prop in zip(rows, props, strict=True):
        y0, x0, y1, x1 = prop.bbox
        label = labels[tuple(prop.coords[0])]
        assert (int(row["object"]), int(row["voxels"])) == (prop.label, prop.num_pixels)
        assert (row["class"], int(row["label"])) == (NAMES[label], label)
        assert float(row["area_m2"]) == 100 * prop.num_pixels
        cy, cx = prop.centroid
        expected = transform @ (cx + 0.5, cy + 0.5)
        assert floats(row, ["centroid_x", "centroid_y"]) == pytest.approx(expected, abs=1e-6)
        (left, top), (right, bottom) = transform @ (x0, y0), transform @ (x1, y1)
        world = ["box_min_x", "box_min_y", "box_max_x", "box_max_y"]
        assert floats(row, world) == pytest.approx([left, bottom, right, top])
        assert floats(row, ["start_y", "start_x", "stop_y", "stop_x"]) == list(prop.bbox)
        border = min(y0, x0) == 0 or y1 == labels.shape[0] or x1 == labels.shape[1]
        assert row["touches_border"] == ("true" if border else "false")


def test_a_scans_objects_have_volumes_and_places_in_its_world(tmp_path: Path) -> None:
    labels = blobs((30, 40, 35), coarse=9)
    matrix = [[0.02, 0.1, -0.9, 12.5], [0.1, 0.88, 0.1, -30.25], [1.95, -0.11, -0.01, 7.75]]
    affine = np.array([*matrix, [0, 0, 0, 1]])
    grid = Grid(labels.shape, as_affine(affine), "millimeter")
    rows = table(write_mask(tmp_path / "a.zarr", labels, grid), tmp_path / "out" / "a.csv")
    props = regionprops(whole(labels))
    assert len(rows) == len(props)
    volume = abs(np.linalg.det(affine[:3, :3]))
    for row, prop in zip(rows, props, strict=True):
        assert float(row["volume_mm3"]) == pytest.approx(volume * prop.num_pixels)
        expected = affine[:3, :3] @ prop.centroid + affine[:3, 3]
        assert floats(row, [f"centroid_{a}" for a in "xyz"]) == pytest.approx(expected)
        assert [int(row[f"start_{a}"]) for a in "zyx"] == list(prop.bbox[:3])
        centres = prop.coords @ affine[:3, :3].T + affine[:3, 3]
        low, high = (floats(row, [f"box_{end}_{a}" for a in "xyz"]) for end in ("min", "max"))
        assert (centres.min(axis=0) > low).all() and (centres.max(axis=0) < high).all()


def test_areas_in_degrees_are_those_of_the_ellipsoid(tmp_path: Path) -> None:
    labels = blobs((90, 80), coarse=20)
    grid = scene_grid(labels.shape, "EPSG:4326", (15.0, 66.0), (2e-4, -1e-4))
    rows = table(write_mask(tmp_path / "a.zarr", labels, grid), tmp_path / "out" / "a.csv")
    earth, numbers = pyproj.Geod(ellps="WGS84"), whole(labels)
    for row in rows:
        ys, xs = np.nonzero(numbers == int(row["object"]))
        true = 0.0
        for y, x in zip(66 - ys * 1e-4, 15 + xs * 2e-4, strict=True):
            corners = [x, x + 2e-4, x + 2e-4, x], [y, y, y - 1e-4, y - 1e-4]
            true += abs(earth.polygon_area_perimeter(*corners)[0])
        assert float(row["area_m2"]) == pytest.approx(true, rel=1e-6)


def test_objects_that_are_kept_beside_the_mask_keep_their_numbers(tmp_path: Path) -> None:
    labels = blobs((80, 90), coarse=20)
    mask = write_mask(tmp_path / "a.zarr", labels)
    numbers = whole(labels)
    write_objects(mask, np.where(numbers > 0, numbers + 7, 0))
    objects = ObjectStore(Companion.objects().path(mask))
    kept = table(mask, tmp_path / "out" / "kept.csv", objects=objects)
    found = table(mask, tmp_path / "out" / "found.csv")
    assert [int(r["object"]) for r in kept] == [int(r["object"]) + 7 for r in found]
    assert [r | {"object": ""} for r in kept] == [r | {"object": ""} for r in found]
    assert "area_m2" not in found[0]


def test_a_mask_without_objects_gives_a_table_without_rows(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "a.zarr", np.zeros((50, 60), np.uint8), scene_grid((50, 60)))
    assert table(mask, tmp_path / "out" / "a.csv") == []
    assert (tmp_path / "out" / "a.csv").read_text().startswith("object,class,label,voxels,area_m2,")


def test_numbers_have_no_objects(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "h.zarr", np.ones((9, 9)), target="height")
    with pytest.raises(CaseError, match=r"it holds numbers \(height\), and a table of objects"):
        table(mask, tmp_path / "out" / "h.csv")
