import shutil
from math import prod

import numpy as np
import pytest
import zarr

from pipeline.errors import ModelError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import ingest_images
from pipeline.io.discover import discover_images
from pipeline.io.files import read_json, read_jsonl
from pipeline.io.layout import choose_layout
from pipeline.io.manifest import usable_cases
from pipeline.io.mask_store import MaskStore, mask_windows
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import load_model, read_card, save_model
from pipeline.normalise import normalise
from pipeline.planned_case import predict_case
from pipeline.predict import (
    PROGRESS,
    CaseToPredict,
    PredictSettings,
    foresee,
    predict,
    predict_cases,
)
from pipeline.predict.tasks import predict_shards
from pipeline.processor import best_processor, forward
from pipeline.space import Window
from tests.test_tiled import whole_pass
from tests.trained import random_network, small_plan, write_model

SERIAL = ExecuteSettings(on="serial")
SHAPE = (40, 130, 70)  # 1 x 3 x 2 chunks of 64: six pieces a mask in tiles of 64


@pytest.fixture
def run(make_msd, take_in, tmp_path):
    """Three ingested volumes and a model."""
    take_in(make_msd(tmp_path / "data", cases=3, shape=SHAPE[::-1]), tmp_path)
    write_model(tmp_path, small_plan(3))
    return tmp_path


def cases(run, folder="masks"):
    rows = usable_cases(run / "manifest.jsonl")
    return [
        CaseToPredict(r.id, run / "volumes" / r.store, run / folder / f"{r.id}.zarr") for r in rows
    ]


def go(run, folder="masks", execute=SERIAL, **settings):
    return predict_cases(
        cases(run, folder),
        PredictSettings(**({"tile": (64, 64, 64)} | settings)),
        execute,
        run_name="test",
        model=run / "best.pt",
        ledger=run / "ledger" / folder,
    )


def test_a_mask_is_the_labels_of_one_pass_over_the_whole_volume(run):
    done = go(run, tile=(24, 24, 24), precision="float32")
    network, card = load_model(run / "best.pt")
    processor = best_processor(3, "cpu", "float32")
    placed = processor.place(network, 3)
    for case, mask in zip(cases(run), done.masks, strict=True):
        volume = VolumeStore(case.store)
        scalings = card.plan.normalisation.scalings(volume.statistics)
        voxels = normalise(volume.read(Window.whole(SHAPE)), scalings)
        labels = MaskStore(mask).read(Window.whole(SHAPE))
        different = np.count_nonzero(labels != whole_pass(placed, voxels, processor))
        assert different <= labels.size * 1e-6  # rounding ties in channels-last float32


def test_serial_one_and_two_dask_workers_write_the_same_bytes(run, tree, monkeypatch):
    monkeypatch.setattr(
        "pipeline.predict.tasks.TASK_VOXELS", 100_000
    )  # else it is too little for Dask
    trees = []
    for name, execute in {
        "serial": SERIAL,
        "two": ExecuteSettings(on="local", workers=2),
    }.items():
        go(run, name, execute)
        trees.append(tree(run / name))
    assert trees[0] == trees[1]


def test_prediction_goes_on_where_it_was_killed(run, tree, monkeypatch):
    go(run, "whole")
    ready = []

    def killed_at_eighth(task):
        if len(ready) == 8:
            raise KeyboardInterrupt
        ready.append(task.pieces[0].unit)
        return predict_shards(task)

    monkeypatch.setattr("pipeline.predict.stage.predict_shards", killed_at_eighth)
    with pytest.raises(KeyboardInterrupt):
        go(run, "resumed")
    assert len([p for p in (run / "resumed").iterdir() if p.suffix == ".zarr"]) == 1
    counted = []

    def count(task):
        counted.append(task.pieces[0].unit)
        return predict_shards(task)

    monkeypatch.setattr("pipeline.predict.stage.predict_shards", count)
    go(run, "resumed")
    assert len(counted) == 18 - 8
    assert tree(run / "resumed") == tree(run / "whole")


def test_an_unchanged_case_is_left_alone_and_a_changed_model_replaces_its_masks(run, times, tree):
    go(run)
    before, bytes_before = times(run / "masks"), tree(run / "masks")
    go(run)
    assert times(run / "masks") == before
    write_model(run, small_plan(3), seed=1)
    go(run)
    assert tree(run / "masks") != bytes_before


def test_a_lost_partial_store_is_not_trusted_to_its_ledger(run, tree):
    go(run, "whole")
    go(run, "lost")
    shutil.rmtree(run / "lost")
    go(run, "lost")
    assert tree(run / "lost") == tree(run / "whole")


def test_voxels_without_data_have_no_label(make_pairs, take_in, tmp_path, write_scene):
    data = make_pairs(tmp_path / "data", side=60)
    bands = np.full((3, 60, 64), 9, np.uint8)
    bands[:, :10, :20] = 0
    write_scene(tmp_path / "data/images/tile_0.tif", bands, nodata=0)
    take_in(data, tmp_path)
    write_model(tmp_path, small_plan(2, channels=3))
    go(tmp_path, tile=(64, 64))
    labels = MaskStore(tmp_path / "masks/tile_0.zarr").read(Window.whole((60, 64)))
    assert (labels[:10, :20] == 255).all()
    assert np.count_nonzero(labels == 255) == 200


def test_a_volume_of_other_channels_is_refused_and_the_others_get_masks(
    make_pairs, take_in, tmp_path, write_scene
):
    data = make_pairs(tmp_path / "data", cases=2)
    odd = write_scene(tmp_path / "odd.tif", np.ones((2, 20, 24), np.uint8))
    take_in(data, tmp_path)
    found = discover_images([odd], data)
    stores, _ = ingest_images(found, data, SERIAL, volumes=tmp_path / "inputs")
    write_model(tmp_path, small_plan(2, channels=3))
    more = CaseToPredict("odd", stores["odd"], tmp_path / "masks/odd.zarr")
    done = predict_cases(
        [*cases(tmp_path), more],
        PredictSettings(),
        SERIAL,
        run_name="test",
        model=tmp_path / "best.pt",
        ledger=tmp_path / "ledger",
    )
    assert [(r.case, r.reason) for r in done.refused] == [("odd", "it has 2 channels, the plan 3.")]
    assert [m.stem for m in done.masks] == ["tile_0", "tile_1"]


def test_a_kill_while_a_mask_is_being_created_does_not_block_it(run, tree, monkeypatch):
    go(run, "whole")

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("pipeline.io.store.ready_to_write", killed)
        go(run, "again")
    go(run, "again")
    assert tree(run / "again") == tree(run / "whole")


def test_tiles_of_another_size_make_no_other_mask(run, times):
    go(run)
    before = times(run / "masks")
    go(run, tile=(16, 16, 16))
    assert times(run / "masks") == before


def test_a_mask_tells_where_it_comes_from(run):
    done = go(run)
    told = dict(zarr.open_group(done.masks[0], mode="r").attrs["segflow"])
    card = read_card(run / "best.pt")
    assert told["status"] == "complete"
    assert told["model"] == {"id": card.model_id, "weights_sha256": card.weights_sha256}
    assert {s["role"] for s in told["sources"]} == {"image", "mask"}
    assert all(len(s["sha256"]) == 64 for s in told["sources"])
    assert told["classes"] == {"background": 0, "liver": 1, "tumour": 2}
    assert told["tiling"]["blend"] == "exact"


def test_weights_that_are_not_the_sidecars_are_refused(run):
    other = write_model(run / "other", small_plan(3), seed=5)
    shutil.copy(other, run / "best.pt")
    with pytest.raises(ModelError, match="not those its sidecar describes"):
        load_model(run / "best.pt")


def test_damaged_weights_are_a_sentence(run):
    (run / "best.pt").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="damaged or of another network"):
        load_model(run / "best.pt")


def test_what_holds_no_data_is_not_computed_and_the_ledger_says_so(
    make_pairs, take_in, tmp_path, write_scene
):
    data = make_pairs(tmp_path / "data", cases=1)
    shape = (600, 1100)  # 2 x 3 chunks of 512
    bands = np.full((3, *shape), 9, np.uint8)
    bands[:, :, :520] = 0
    write_scene(tmp_path / "data/images/tile_0.tif", bands, nodata=0)
    (tmp_path / "data/masks/tile_0.png").unlink()
    odd = discover_images([tmp_path / "data/images/tile_0.tif"], data)
    stores, _ = ingest_images(odd, data, SERIAL, volumes=tmp_path / "inputs")
    write_model(tmp_path, small_plan(2, channels=3))
    case = CaseToPredict("tile", stores["tile_0"], tmp_path / "masks/tile.zarr")
    predict_cases(
        [case],
        PredictSettings(tile=(64, 64)),
        SERIAL,
        run_name="test",
        model=tmp_path / "best.pt",
        ledger=tmp_path / "ledger",
    )
    (record,) = (tmp_path / "ledger/predict").rglob("*.jsonl")
    states = {row["unit"]: row["state"] for row in read_jsonl(record)}
    assert states == {
        **{f"{y}-0+{h}-512": "masked" for y, h in ((0, 512), (512, 88))},
        **{f"{y}-512+{h}-512": "done" for y, h in ((0, 512), (512, 88))},
        **{f"{y}-1024+{h}-76": "done" for y, h in ((0, 512), (512, 88))},
    }
    labels = MaskStore(case.final).read(Window.whole(shape))
    assert (labels[:, :520] == 255).all() and (labels[:, 520:] < 3).all()


def test_a_dry_run_tells_the_passes_that_prediction_makes(run, monkeypatch):
    settings = PredictSettings(tile=(24, 24, 24))
    places = {
        "model": run / "best.pt",
        "manifest": run / "manifest.jsonl",
        "volumes": run / "volumes",
        "output": run / "predictions",
    }
    shown = []

    def counting(model, batch, *rest):
        shown.append(prod(batch.shape[2:]))
        return forward(model, batch, *rest)

    outlook = foresee(settings, SERIAL, run_name="test", **places)
    assert not (run / "predictions").exists() and not (run / "ledger").exists()
    assert (outlook.cases, outlook.done, outlook.refused) == (3, 0, 0)
    assert outlook.pieces == 3 * 6 and outlook.voxels == 3 * prod(SHAPE)
    monkeypatch.setattr("pipeline.tiled.forward", counting)
    monkeypatch.setattr("pipeline.predict.stage.self_test", lambda *_: None)
    records = {"quarantine": run / "quarantine.jsonl", "ledger": run / "ledger"}
    predict(settings, SERIAL, run_name="test", **places, **records)
    assert outlook.tiles == len(shown)
    assert outlook.redundancy == pytest.approx(sum(shown) / outlook.voxels)
    assert outlook.seconds > 0
    again = foresee(settings, SERIAL, run_name="test", **places)
    assert (again.cases, again.done, again.tiles, again.seconds) == (0, 3, 0, 0.0)


def test_boxes_grow_with_the_tile_and_cover_a_mask_in_whole_shards():
    for shape, about, count in [
        ((128, 256, 256), None, 32),
        ((128, 256, 256), (128, 256, 256), 1),
        ((128, 256, 256), (128, 130, 256), 2),
        ((128, 256, 256), (60, 200, 250), 2 * 2 * 2),
        ((1024, 1024, 1024), (300, 600, 600), 4 * 2 * 2),
    ]:
        boxes = mask_windows(shape, "uint8", about)
        unit = choose_layout(shape, "uint8").write
        assert len(boxes) == count
        assert sum(box.size for box in boxes) == prod(shape)
        assert all(a % u == 0 for box in boxes for a, u in zip(box.start, unit, strict=True))


@pytest.mark.slow
def test_mirror_images_are_asked_about_and_make_another_mask(run, tree):
    done = go(run)
    plain = tree(run / "masks")
    go(run, mirror=True)
    assert tree(run / "masks") != plain
    assert MaskStore(done.masks[0]).attributes["mirrored"]
    go(run)
    assert tree(run / "masks") == plain


def test_tiles_are_blended_on_request(run):
    done = go(run, tile=None, blend="gaussian")
    assert MaskStore(done.masks[0]).attributes["tiling"]["blend"] == "gaussian"


def states(run):
    """The states that the ledger knows, by unit, of all cases."""
    rows = [read_jsonl(record) for record in (run / "ledger").rglob("*.jsonl")]
    return [row["state"] for case in rows for row in case]


def test_what_holds_background_alone_is_empty_to_the_ledger(run):
    network = random_network(small_plan(3))
    network.head.bias.data[0] = 1e4
    training = {"steps": 0, "position": 0, "val_score": None}
    save_model(run / "best.pt", network.state_dict(), small_plan(3), training)
    (mask, *_) = go(run).masks
    assert not MaskStore(mask).read(Window.whole(SHAPE)).any()
    assert set(states(run)) == {"empty"}


def test_a_piece_that_fails_is_recorded_and_tried_again(run, tree, monkeypatch):
    going = []

    def fails_once(network, case, window, wanted):
        going.append(read_json(progress) if progress.exists() else None)
        if len(going) == 2:
            raise ValueError("odd voxels")
        return predict_case(network, case, window, wanted)

    progress = run / "ledger/masks" / PROGRESS
    monkeypatch.setattr("pipeline.predict.tasks.predict_case", fails_once)
    done = go(run)
    assert len(done.masks) == 2 and "odd voxels" in done.refused[0].reason
    assert sorted(set(states(run))) == ["done", "failed"]
    assert {"done": 1, "total": 18} in going and not progress.exists()
    monkeypatch.undo()
    go(run, "whole")
    assert len(go(run).masks) == 3
    assert tree(run / "masks") == tree(run / "whole")
