"""Errors of numbers: sums that merge, figures as their definitions have them, scores.json."""

import csv
import json

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from flows.summary import score_table
from pipeline.errors import NothingUsableError
from pipeline.io.manifest import read_manifest, read_quarantine
from pipeline.io.volume_store import VolumeStore
from pipeline.metrics import ErrorSums
from pipeline.model_file import read_card
from pipeline.score import headline
from pipeline.space import Window
from tests.regression.heights import height_plan, make_heights, predicted, scene, write_heights
from tests.stages import scored
from tests.trained import small_plan, write_model

SHAPE = (600, 560)  # 2 x 2 shards: the sums of a case are merged from four windows


# Sums


def known(values, truth):
    both = np.isfinite(values) & np.isfinite(truth)
    return values[both].astype(np.float64), truth[both].astype(np.float64)


@pytest.mark.parametrize("offset", [0.0, 5e4, -1e6])
def test_figures_are_their_definitions(offset):
    random = np.random.default_rng(0)
    truth = (random.normal(0, 7, (50, 60)) + offset).astype(np.float32)
    values = (truth + random.normal(1, 2, truth.shape)).astype(np.float32)
    values[random.random(truth.shape) < 0.2] = np.nan
    truth[random.random(truth.shape) < 0.2] = np.nan
    found, (v, t) = ErrorSums.of(values, truth), known(values, truth)
    assert found.count == len(v)
    assert found.mae == pytest.approx(np.abs(v - t).mean(), rel=1e-12)
    assert found.mse == pytest.approx(((v - t) ** 2).mean(), rel=1e-12)
    assert found.rmse == pytest.approx(found.mse**0.5)
    # The variance is a difference of large sums, where the numbers are far from zero.
    assert found.r2 == pytest.approx(
        1 - ((v - t) ** 2).sum() / ((t - t.mean()) ** 2).sum(), rel=1e-5
    )


def test_r2_is_that_of_an_independent_definition():
    random = np.random.default_rng(1)
    truth = random.normal(size=4000)
    values = 0.8 * truth + random.normal(0, 0.3, 4000)
    residual = torch.nn.functional.mse_loss(torch.tensor(values), torch.tensor(truth))
    expected = 1 - residual / torch.tensor(truth).var(correction=0)
    assert ErrorSums.of(values, truth).r2 == pytest.approx(float(expected), abs=1e-12)


@given(
    st.lists(
        st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32)), max_size=40
    ),
    st.integers(0, 40),
)
def test_parts_add_up_to_the_whole_and_lists_carry_them(pairs, cut):
    values, truth = np.array(pairs, np.float32).reshape(-1, 2).T
    whole = ErrorSums.of(values, truth)
    parts = [ErrorSums.of(values[:cut], truth[:cut]), ErrorSums.of(values[cut:], truth[cut:])]
    added = np.sum([part.to_list() for part in parts], axis=0)
    for merged in (parts[0] + parts[1], parts[1] + parts[0], ErrorSums.from_list(added.tolist())):
        assert merged.count == whole.count and isinstance(merged.count, int)
        assert merged.to_list() == pytest.approx(whole.to_list(), rel=1e-12)


def test_a_perfect_value_has_r2_of_one_and_the_mean_of_zero():
    truth = np.arange(12, dtype=np.float32)
    assert ErrorSums.of(truth, truth).r2 == 1.0
    assert ErrorSums.of(np.full(12, truth.mean()), truth).r2 == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("number", [0.0, 0.1, -9876.543, 1e-20])
def test_of_a_constant_truth_there_is_no_r2(number):
    truth = np.full(10_000, number, np.float32)
    found = ErrorSums.of(truth + np.float32(1), truth)
    assert found.r2 is None and found.mae == pytest.approx(1.0, rel=1e-3)


def test_of_nothing_there_is_no_figure():
    found = ErrorSums.of(np.full(4, np.nan), np.ones(4))
    assert found == ErrorSums() and found.count == 0
    assert (found.mae, found.mse, found.rmse, found.r2) == (None,) * 4


# Scores


@pytest.fixture
def run(tmp_path, write_scene, take_in):
    take_in(make_heights(tmp_path / "data", write_scene, shape=SHAPE), tmp_path)
    predicted(tmp_path)
    return tmp_path


def whole_case(run, row):
    volume = VolumeStore(run / "volumes" / row.store)
    folder = run / "predictions" / read_card(run / "best.pt").model_id
    import zarr

    values = zarr.open_array(folder / row.store / "0" / "mask", mode="r")[:]
    return known(values, volume.read_truth(Window.whole(SHAPE)))


def test_figures_of_each_case_are_those_of_its_whole_arrays(run):
    scores = scored(run)
    rows = {row["case"]: row for row in scores["cases"]}
    for row in read_manifest(run / "manifest.jsonl"):
        v, t = whole_case(run, row)
        found = rows[row.id]
        assert (found["split"], found["target"], found["count"]) == (row.split, "height", len(v))
        assert found["mae"] == pytest.approx(np.abs(v - t).mean(), rel=1e-12)
        assert found["rmse"] == pytest.approx(((v - t) ** 2).mean() ** 0.5, rel=1e-12)
        assert found["r2"] == pytest.approx(1 - ((v - t) ** 2).mean() / t.var(), rel=1e-9)


def test_the_headline_is_the_mean_over_held_out_cases_and_the_pooled_r2_is_of_all_voxels(run):
    scores = scored(run, held_out="train")
    held_out = [r for r in read_manifest(run / "manifest.jsonl") if r.split == "train"]
    assert len(held_out) > 2
    rows = [r for r in scores["cases"] if r["split"] == "train"]
    for name in ("mae", "mse", "rmse", "r2"):
        assert scores["mean"][name] == pytest.approx(np.mean([r[name] for r in rows]), rel=1e-12)
    v, t = (np.concatenate(a) for a in zip(*[whole_case(run, r) for r in held_out], strict=True))
    pooled = 1 - ((v - t) ** 2).mean() / t.var()
    assert scores["mean"]["r2_pooled"] == pytest.approx(pooled, rel=1e-9)
    target = scores["targets"]["height"]
    assert target == {
        **scores["mean"],
        "n_cases": len(rows),
        "n_constant": 0,
        "n_empty": 0,
    }
    assert (scores["task"], scores["split"]) == ("regression", "train")
    assert json.loads((run / "scores.json").read_text()) == scores
    table = list(csv.DictReader((run / "scores.csv").read_text().splitlines()))
    assert len(table) == len(scores["cases"]) == 6
    assert float(table[0]["mae"]) == scores["cases"][0]["mae"]


def test_people_are_told_mae_and_r2(run):
    scores = scored(run)
    mean = scores["mean"]
    assert headline(scores) == f"mean absolute error {mean['mae']:.4g}, R² {mean['r2']:.4f}"
    columns, [row] = score_table(scores)
    shown = dict(zip(columns, row, strict=True))
    assert shown["target"] == "height" and shown["MAE"] == f"{mean['mae']:.4g}"
    assert shown["R²"] == f"{mean['r2']:.4f}" and shown["cases"] == "1"


def held_out_store(run):
    row = next(r for r in read_manifest(run / "manifest.jsonl") if r.split == "test")
    folder = run / "predictions" / read_card(run / "best.pt").model_id
    return row, VolumeStore(run / "volumes" / row.store), folder / row.store


def test_a_case_of_constant_truth_is_counted_and_has_no_r2(tmp_path, write_scene, take_in):
    data = make_heights(tmp_path / "data", write_scene, cases=4)
    for number in range(4):
        path = tmp_path / "data" / "heights" / f"tile_{number}.tif"
        write_scene(path, np.full((1, 96, 112), 5.1, np.float32))
    take_in(data, tmp_path)
    predicted(tmp_path)
    scores = scored(tmp_path)
    assert scores["mean"]["r2"] is None and scores["mean"]["r2_pooled"] is None
    assert scores["mean"]["mae"] > 0 and scores["targets"]["height"]["n_constant"] == 1
    assert headline(scores).startswith("mean absolute error ") and "R²" not in headline(scores)
    assert score_table(scores)[1][0][4] == "–"


def test_a_mask_that_is_infinite_is_set_aside(run):
    row, volume, path = held_out_store(run)
    values = scene(0, SHAPE)[1]
    values[300, 300] = np.inf
    write_heights(path, volume, values)
    assert row.id not in {r["case"] for r in scored(run)["cases"]}
    [refused] = read_quarantine(run / "quarantine.jsonl")
    assert (refused.case, refused.reason) == (row.id, "its mask holds infinity.")


def test_numbers_are_not_scored_by_a_model_of_classes(run):
    folder = run / "predictions" / read_card(run / "best.pt").model_id
    write_model(run, small_plan(2, 2))
    folder.rename(run / "predictions" / read_card(run / "best.pt").model_id)
    with pytest.raises(
        NothingUsableError, match=r"its mask holds numbers, the model makes classes"
    ):
        scored(run)


def test_classes_are_not_scored_by_a_model_of_numbers(tmp_path, make_pairs, take_in):
    take_in(make_pairs(tmp_path), tmp_path)
    model = write_model(tmp_path, height_plan(3))
    folder = tmp_path / "predictions" / read_card(model).model_id
    for row in read_manifest(tmp_path / "manifest.jsonl"):
        volume = VolumeStore(tmp_path / "volumes" / row.store)
        write_heights(folder / row.store, volume, np.ones((20, 24)))
    with pytest.raises(
        NothingUsableError, match=r"its truth holds classes, the model makes numbers"
    ):
        scored(tmp_path)
