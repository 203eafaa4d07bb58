from collections import Counter

import numpy as np
import pytest

from pipeline.errors import NothingUsableError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings
from pipeline.io.manifest import usable_cases
from pipeline.io.patch_store import PatchStore
from pipeline.io.volume_store import VolumeStore
from pipeline.normalise import normalise
from pipeline.patches import PatchSettings, cut_patches, patch, plan_patches
from pipeline.space import Window
from tests.trained import small_plan

SERIAL = ExecuteSettings(on="serial")


@pytest.fixture
def taken(make_msd, take_in, tmp_path):
    """Four ingested volumes of 40×36×44 and the folder they lie in."""
    take_in(make_msd(tmp_path / "data", shape=(40, 36, 44)), tmp_path / "run")
    return tmp_path / "run"


def cut(run, name="patches.zarr", execute=SERIAL, settings=None):
    patch(
        small_plan(3),
        settings or PatchSettings(),
        execute,
        manifest=run / "manifest.jsonl",
        volumes=run / "volumes",
        final=run / name,
        ledger=run / f"{name}.ledger.jsonl",
    )
    return run / name


def test_a_patch_is_the_normalised_window_it_was_planned_for(taken):
    plan, settings = small_plan(3), PatchSettings()
    rows = usable_cases(taken / "manifest.jsonl", ["train"])
    _, tasks = plan_patches(rows, taken / "volumes", plan, settings, taken / "p.zarr")
    store = PatchStore(cut(taken))
    placements = [p for task in tasks for p in task.placements]
    assert len(store) == len(placements) == len(store.attributes["cases"])
    for number, placement in enumerate(placements):
        volume = VolumeStore(placement.store)
        assert Window.whole(volume.grid.shape).contains(placement.window)
        found = store.read(number)
        image, label = found.image, found.label
        scalings = plan.normalisation.scalings(volume.statistics)
        expected = normalise(volume.read(placement.window), scalings)
        assert np.array_equal(image, expected.astype(np.float16))
        assert np.array_equal(label, volume.read_truth(placement.window))


def test_outside_a_small_volume_a_patch_is_the_mean_and_has_no_label(make_msd, take_in, tmp_path):
    take_in(make_msd(tmp_path / "data", shape=(9, 11, 7)), tmp_path / "run")
    store = PatchStore(cut(tmp_path / "run"))
    found = store.read(0)
    image, label = found.image, found.label
    assert label.shape == (20, 20, 20)
    assert np.count_nonzero(label != 255) == 9 * 11 * 7
    assert not image[0][label == 255].any()


def test_half_of_the_patches_hold_a_class_in_turn(taken):
    settings = PatchSettings(per_case=8)
    rows = usable_cases(taken / "manifest.jsonl", ["train"])
    store = PatchStore(cut(taken, settings=settings))
    assert Counter(store.attributes["cases"]) == {row.id: 8 for row in rows}
    assert all({1, 2} <= set(np.unique(store.read(n).label)) for n in range(len(store)))


def test_serial_and_dask_cut_the_same_bytes(taken, tree, monkeypatch):
    monkeypatch.setattr("pipeline.io.patch_store.SHARD_BYTES", 100_000)
    serial = tree(cut(taken, "serial.zarr"))
    dask = tree(cut(taken, "dask.zarr", ExecuteSettings(on="local", workers=2)))
    assert sum("/c/" in name for name in serial) > 8  # several shards, or nothing was shared out
    assert serial == dask


def test_cutting_goes_on_where_it_was_killed(taken, tree, monkeypatch):
    monkeypatch.setattr("pipeline.io.patch_store.SHARD_BYTES", 100_000)
    whole = tree(cut(taken, "whole.zarr"))
    seen = []

    def fails_at_third(task):
        seen.append(task.numbers.start)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return cut_patches(task)

    monkeypatch.setattr("pipeline.patches.stage.cut_patches", fails_at_third)
    with pytest.raises(KeyboardInterrupt):
        cut(taken, "resumed.zarr")
    assert not (taken / "resumed.zarr").exists()
    again = []

    def counted(task):
        again.append(task.numbers.start)
        return cut_patches(task)

    monkeypatch.setattr("pipeline.patches.stage.cut_patches", counted)
    assert tree(cut(taken, "resumed.zarr")) == whole
    assert not set(again) & set(seen[:2])
    again.clear()
    cut(taken, "resumed.zarr")
    assert again == []


def test_cases_without_a_labelled_voxel_are_nothing_to_learn_from(make_pairs, take_in, tmp_path):
    data = make_pairs(
        tmp_path / "data",
        ignore_values=(1, 2),
        classes=(
            {"name": "a", "values": (7,)},
            {"name": "b", "values": (8,)},
        ),
    )
    take_in(data, tmp_path / "run")
    plan = small_plan(2, channels=3)
    rows = usable_cases(tmp_path / "run/manifest.jsonl", ["train"])
    with pytest.raises(NothingUsableError, match="labelled voxel"):
        plan_patches(rows, tmp_path / "run/volumes", plan, PatchSettings(), tmp_path / "p.zarr")


def scene_with_holes(folder, write_scene, write_picture, block):
    """A 300×300 scene with data in a square of ``block`` pixels and in single pixels elsewhere."""
    random = np.random.default_rng(0)
    bands = random.integers(1, 255, (3, 300, 300), dtype=np.uint8)
    data = random.random((300, 300)) < 0.02
    data[:block, :block] = True
    bands[:, ~data] = 0
    for name in ("a", "b"):
        write_scene(folder / f"images/{name}.tif", bands, nodata=0)
        write_picture(folder / f"masks/{name}.png", random.integers(1, 3, (300, 300), np.uint8))


def nodata_shares(run, settings):
    """What of each patch's middle 16 pixels holds no data, where patches of 20 are placed."""
    rows = usable_cases(run / "manifest.jsonl", ["train"])
    plan = small_plan(2, channels=3)
    _, tasks = plan_patches(rows, run / "volumes", plan, settings, run / "p.zarr")
    placements = [p for task in tasks for p in task.placements]
    middles = [(p.store, p.window.grown((-2, -2)).clipped((300, 300))) for p in placements]
    return [1 - VolumeStore(store).read_valid(middle).mean() for store, middle in middles]


@pytest.mark.parametrize("block", [40, 0])
def test_patches_lie_where_there_is_data(
    make_pairs, take_in, write_scene, write_picture, tmp_path, block
):
    data = make_pairs(tmp_path / "data", cases=0)
    scene_with_holes(tmp_path / "data", write_scene, write_picture, block)
    take_in(data, tmp_path / "run")
    free = nodata_shares(tmp_path / "run", PatchSettings(per_case=32, max_nodata=1))
    bounded = nodata_shares(tmp_path / "run", PatchSettings(per_case=32))
    assert len(free) == len(bounded) == 2 * 32
    assert max(free) > 0.9
    if block:
        assert max(bounded) <= 0.5
    else:  # there is no such place: the best of some
        assert 0.5 < np.mean(bounded) < np.mean(free)


def test_a_class_that_few_cases_have_gets_most_patches_of_those(
    make_pairs, take_in, write_picture, tmp_path
):
    data = make_pairs(tmp_path / "data", cases=10, side=60)
    rare = data.classes[0].model_copy(update={"name": "lake", "values": (3,)})
    data = data.model_copy(update={"classes": (*data.classes, rare)})
    mask = np.random.default_rng(2).integers(1, 3, (60, 64), dtype=np.uint8)
    mask[30, 30] = 3
    write_picture(tmp_path / "data/masks/tile_4.png", mask)
    take_in(data, tmp_path / "run", IngestSettings(test_fraction=0, val_fraction=0))
    settings = PatchSettings(per_case=13, foreground=1)
    rows = usable_cases(tmp_path / "run/manifest.jsonl", ["train"])
    _, (task,) = plan_patches(
        rows, tmp_path / "run/volumes", small_plan(2, channels=3), settings, tmp_path / "p.zarr"
    )
    holding = Counter(p.case for p in task.placements if 2 in np.unique(truth_of(p)))
    # Ten times rarer among the cases, it weighs ten times as much as the other foreground class.
    assert set(holding) == {"tile_4"}
    assert holding["tile_4"] >= 10


def truth_of(placement):
    store = VolumeStore(placement.store)
    return store.read_truth(placement.window.clipped(store.grid.shape))
