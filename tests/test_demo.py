"""The demo's datasets are whole, the same every time, and meet the rules of real ones."""

import numpy as np
import pytest

from pipeline.demo import SCENES, VOLUMES, make_demo
from pipeline.init import init
from pipeline.io.volume_store import VolumeStore
from pipeline.space import Window


@pytest.mark.parametrize("kind", ["volume", "scene"])
def test_a_second_demo_touches_no_file_and_another_folder_gets_the_same_bytes(
    tmp_path, tree, times, kind
):
    settings = make_demo(kind, tmp_path / "a")
    before = times(tmp_path / "a")
    assert make_demo(kind, tmp_path / "a") == settings
    assert times(tmp_path / "a") == before
    make_demo(kind, tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize(("kind", "cases"), [("volume", VOLUMES), ("scene", SCENES)])
def test_every_case_is_taken_in_and_holds_every_class(tmp_path, take_in, kind, cases):
    settings = make_demo(kind, tmp_path)
    assert settings.dir.root == tmp_path and settings.train.max_minutes is None
    taken = take_in(settings.data, tmp_path / "run")
    assert not taken.refused and len(taken.complete) == cases
    for path in taken.volumes.iterdir():
        assert min(VolumeStore(path).statistics["class_voxels"]) > 100


def test_classes_differ_in_brightness_within_a_scan(tmp_path, take_in):
    taken = take_in(make_demo("volume", tmp_path).data, tmp_path / "run")
    store = VolumeStore(taken.volumes / "scan_03.zarr")
    whole = Window.whole(store.grid.shape)
    voxels, truth = store.read(whole).array[0], store.read_truth(whole)
    means = [voxels[truth == label].mean() for label in range(3)]
    assert store.grid.spacing == (1.5, 1, 1) and means[0] < 0.6 * means[1] < 0.6 * means[2]


def test_scenes_have_a_place_and_some_have_a_corner_without_data(tmp_path, take_in):
    taken = take_in(make_demo("scene", tmp_path).data, tmp_path / "run")
    grids = [VolumeStore(p).grid for p in sorted(taken.volumes.iterdir())]
    assert all("UTM zone 33N" in grid.crs for grid in grids)
    assert len({grid.affine for grid in grids}) == SCENES
    holes = [VolumeStore(p).statistics["valid_voxels"] < 256**2 for p in taken.volumes.iterdir()]
    assert sum(holes) == SCENES / 3
    store = VolumeStore(taken.volumes / "tile_00.zarr")
    assert np.unique(store.read_truth(Window((0, 0), (30, 30)))).tolist() == [255]


@pytest.mark.parametrize("kind", ["volume", "scene"])
def test_init_recognises_what_the_demo_makes(tmp_path, kind):
    settings = make_demo(kind, tmp_path)
    found = init(tmp_path / "data", tmp_path / "run.yaml").settings.data
    assert [c.values for c in found.classes] == [c.values for c in settings.data.classes]
    assert (found.root, found.layout) == (settings.data.root, settings.data.layout)
