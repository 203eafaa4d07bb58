"""A picture shows the image, contours of the mask over it, and whose they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import CaseError
from pipeline.export import ExportSettings, export
from pipeline.export import overlays as drawing
from pipeline.export.overlays import write
from pipeline.io.ngff import COLORS
from pipeline.io.volume_store import VolumeStore
from pipeline.space import Window
from tests.export.scenes import export_of, write_mask

LEGEND = 36
"""Height of a legend of one line: letters, and what is above and below."""


def pixels(path: Path) -> np.ndarray:
    """A picture as RGB."""
    return np.asarray(Image.open(path).convert("RGB"))


def square(shape: tuple[int, int], low: int, high: int) -> np.ndarray:
    """A square of class 1."""
    labels = np.zeros(shape, np.uint8)
    labels[low:high, low:high] = 1
    return labels


@pytest.fixture
def scene(make_pairs, take_in, tmp_path: Path) -> VolumeStore:
    """A scene of 200 × 204 pixels."""
    taken = take_in(make_pairs(tmp_path / "data", cases=1, side=200), tmp_path / "run")
    return VolumeStore(taken.volumes / "tile_0.zarr")


def test_a_scenes_contours_lie_where_its_classes_end(scene: VolumeStore, tmp_path: Path) -> None:
    labels = square(scene.grid.shape, 50, 120)
    mask = write_mask(tmp_path / "a.zarr", labels, scene.grid)
    found = export_of(mask, tmp_path / "out" / "a.png", volume=scene)
    write(found)
    picture = pixels(found.target)
    assert picture.shape == (800 + LEGEND, 816, 3)  # four pixels for each of the scene's
    drawn = (picture[:800] == COLORS[0]).all(axis=-1)
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (200, 479, 200, 479)
    assert not drawn[210:470, 210:470].any()


def test_between_contours_the_image_is_seen(scene: VolumeStore, tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "a.zarr", np.zeros(scene.grid.shape, np.uint8), scene.grid)
    found = export_of(mask, tmp_path / "out" / "a.png", volume=scene)
    write(found)
    bands = scene.read(Window.whole(scene.grid.shape)).array
    limits = [(c["percentiles"]["1"], c["percentiles"]["99"]) for c in scene.statistics["channels"]]
    scaled = [(b - low) / (high - low) for b, (low, high) in zip(bands * 1.0, limits, strict=True)]
    expected = np.rint(255 * np.clip(scaled, 0, 1)).astype(int)
    seen = np.moveaxis(pixels(found.target)[:800][2::4, 2::4], -1, 0)
    assert np.abs(seen.astype(int) - expected).max() <= 1


def test_the_legend_shows_every_class_but_the_background(
    scene: VolumeStore, tmp_path: Path
) -> None:
    mask = write_mask(tmp_path / "a.zarr", np.zeros(scene.grid.shape, np.uint8), scene.grid)
    found = export_of(mask, tmp_path / "out" / "a.png", volume=scene)
    write(found)
    legend = pixels(found.target)[800:].reshape(-1, 3)
    shown = {tuple(int(v) for v in colour) for colour in np.unique(legend, axis=0)}
    assert shown & set(COLORS) == set(COLORS[:3])


def test_a_large_scene_is_drawn_from_its_pyramid(
    make_pairs, take_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take_in(make_pairs(tmp_path / "data", cases=1, side=1100), tmp_path / "run")
    volume = VolumeStore(taken.volumes / "tile_0.zarr")
    monkeypatch.setattr(drawing, "MOST_SIDE", 700)
    labels = square(volume.grid.shape, 300, 700)
    mask = write_mask(tmp_path / "a.zarr", labels, volume.grid)
    found = export_of(mask, tmp_path / "out" / "a.png", volume=volume)
    write(found)
    picture = pixels(found.target)
    assert picture.shape[1] == 700
    rows, _ = np.nonzero((picture[:697] == COLORS[0]).all(axis=-1))
    assert (rows.min(), rows.max()) == (
        pytest.approx(150 * 700 / 552, abs=2),
        pytest.approx(350 * 700 / 552, abs=2),
    )


def test_a_volume_is_three_planes_beside_each_other(make_msd, take_in, tmp_path: Path) -> None:
    taken = take_in(make_msd(tmp_path / "data", cases=1, shape=(40, 50, 30)), tmp_path / "run")
    volume = VolumeStore(taken.volumes / "liver_0.zarr")
    labels = np.zeros(volume.grid.shape, np.uint8)
    labels[10:20, 10:30, 10:25] = 2
    mask = write_mask(tmp_path / "a.zarr", labels, volume.grid)
    found = export_of(mask, tmp_path / "out" / "a.png", volume=volume)
    write(found)
    drawn = (pixels(found.target)[:-LEGEND] == COLORS[1]).all(axis=-1).any(axis=0)
    assert np.count_nonzero(np.diff(drawn.astype(int)) == 1) >= 3


def test_the_dispatcher_finds_the_image_beside_the_run(scene: VolumeStore, tmp_path: Path) -> None:
    place = tmp_path / "run" / "predictions" / "unet-0" / "tile_0.zarr"
    mask = write_mask(place, square(scene.grid.shape, 5, 9), scene.grid)
    with pytest.raises(Exception, match="it has no volume store beside its run"):
        export(mask, tmp_path / "a.png", ExportSettings("png"))


def test_numbers_have_no_contours(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "h.zarr", np.ones((9, 9)), target="height")
    with pytest.raises(CaseError, match=r"it holds numbers \(height\), and a picture of contours"):
        write(export_of(mask, tmp_path / "out" / "h.png"))


def test_a_mask_without_its_image_says_where_to_name_it(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "a.zarr", np.zeros((9, 9), np.uint8))
    with pytest.raises(CaseError, match="Name the folder of the volume stores with --volumes"):
        write(export_of(mask, tmp_path / "out" / "a.png"))
