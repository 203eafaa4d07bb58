"""The benchmark of training runs on a small run, and compares what it says it compares."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models import build_model
from pipeline.errors import SettingsError, StoreError
from pipeline.execute import ExecuteSettings
from pipeline.patches import PatchSettings, patch
from pipeline.plan_file import write_plan
from pipeline.run.settings import RunSettings
from pipeline.run.settings_file import dump_settings
from pipeline.training import TrainSettings
from tests.bench import training
from tests.bench.sides import Side, ratio
from tests.bench.training_nnunet import nnunet_plan
from tests.bench.training_run import open_run
from tests.bench.training_sampler import datasets, placements_of, shardwise_order
from tests.trained import small_plan


@pytest.fixture
def run(make_msd, take_in, tmp_path):
    """The folder of a small run whose patches are cut."""
    folder = tmp_path / "run"
    data = make_msd(tmp_path / "data", cases=5, shape=(20, 24, 22))
    take_in(data, folder)
    recipe = {"max_minutes": 1, "loader_workers": 1, "precision": "float32", "tensorboard": False}
    settings = RunSettings(
        name="small", run_dir=str(folder), data=data, train=TrainSettings(**recipe)
    )
    (folder / "run.yaml").write_text(dump_settings(settings))
    write_plan(folder / "plan.json", small_plan(3))
    patch(
        small_plan(3),
        settings.patch,
        ExecuteSettings(on="serial"),
        manifest=folder / "manifest.jsonl",
        volumes=folder / "volumes",
        final=folder / "patches.zarr",
        ledger=folder / "patch.jsonl",
    )
    return folder


def measured(monkeypatch, run, out, *options):
    arguments = [str(run), "--seconds", "0", "--steps", "1", "--curve", "3", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["training", *arguments, *options])
    training.main()
    return json.loads(out.read_text())


KINDS = ("augmented", "plain")


@pytest.mark.slow
def test_a_step_with_the_loader_is_compared_with_one_without(run, tmp_path, monkeypatch, times):
    before = times(run)
    result = measured(monkeypatch, run, tmp_path / "result.json", "--part", "loader")
    row = result["loader"]
    assert row["rounds"] == 3 and row["threads"] >= 1
    assert row["step_s"].keys() == {"loader", "repeated"} and min(row["step_s"].values()) > 0
    assert row["met"] == (row["ratio"] <= row["goal"])
    assert {"date", "processor", "cores", "torch"} <= result.keys()
    assert times(run) == before  # it is only read


def test_feeding_is_measured_beside_what_was_measured_before(run, tmp_path, monkeypatch):
    out = tmp_path / "result.json"
    out.write_text(json.dumps({"loader": {"ratio": 1.0}}))
    result = measured(monkeypatch, run, out, "--part", "sampler")
    assert result["loader"] == {"ratio": 1.0}
    row = result["sampler"]
    assert set(row["patches_per_s"]) == {
        f"{source}_{kind}" for source in ("store", "windows", "shards") for kind in KINDS
    }
    assert row["patches"] == len(datasets(open_run(run))["store_plain"])
    assert row["patch_store_bytes"] == sum(
        path.stat().st_size for path in (run / "patches.zarr").rglob("*") if path.is_file()
    )


@pytest.mark.slow
def test_two_ranks_are_compared_with_two_parts_step_by_step(run, tmp_path, monkeypatch):
    row = measured(monkeypatch, run, tmp_path / "result.json", "--part", "ranks")["ranks"]
    assert row["steps"] == 3
    # Rounding alone: sums are taken in another order.
    assert 0 <= row["float32"]["largest_relative_difference"] <= row["goal"]


def test_windows_of_the_volumes_are_the_patches_of_the_store(run):
    found = datasets(open_run(run))
    for kind in KINDS:
        for position in range(len(found[f"store_{kind}"])):
            stored, cut = (found[f"{source}_{kind}"][position] for source in ("store", "windows"))
            assert stored.keys() == cut.keys()
            assert stored["number"] == cut["number"]
            assert torch.equal(stored["image"], cut["image"])
            assert torch.equal(stored["label"], cut["label"])


def test_a_pass_over_shards_sees_every_patch_once_and_two_shards_at_a_time(run):
    dataset = datasets(open_run(run))["shards_plain"]
    seen = [dataset[position]["number"] for position in range(len(dataset))]
    assert sorted(seen) == list(range(len(dataset)))
    order = shardwise_order(23, 4, np.random.default_rng(0))
    assert sorted(order) == list(range(23))
    assert [len({n // 4 for n in order[a:b]}) for a, b in ((0, 7), (8, 15), (16, 23))] == [2] * 3


def test_patches_of_other_settings_are_refused(run):
    opened = open_run(run)
    changed = opened.settings.model_copy(update={"patch": PatchSettings(seed=7)})
    with pytest.raises(StoreError, match="segflow patch"):
        placements_of(type(opened)(changed, opened.folder, opened.plan))


def test_a_run_is_found_beside_its_yaml(run):
    moved = run.parent / "run.yaml"
    moved.write_text((run / "run.yaml").read_text().replace(str(run), "run"))
    assert open_run(moved).folder.patches == run / "patches.zarr"
    moved.write_text(moved.read_text().replace("run_dir: run", "run_dir: elsewhere"))
    with pytest.raises(SettingsError, match="elsewhere"):
        open_run(moved)


def test_a_side_that_ends_is_told_of_with_its_last_words():
    code = "import sys; sys.exit('no more')"
    with (
        Side([sys.executable, "-c", code]) as side,
        pytest.raises(RuntimeError, match="no more"),
    ):
        side.block("loader", 1)


def test_ratios_are_of_rounds_and_their_median_is_given():
    assert ratio([2, 4, 9], [1, 1, 3])["ratio"] == 3


def test_nnunet_is_told_of_every_stage_and_refuses_what_it_lacks():
    plan = small_plan(3)
    told = nnunet_plan(plan)
    kwargs = told["architecture"]["arch_kwargs"]
    assert (told["patch_size"], told["batch_size"]) == ([16] * 3, 2)
    assert (kwargs["features_per_stage"], kwargs["conv_bias"]) == ([4, 8, 8], False)
    assert kwargs["norm_op"] == "torch.nn.modules.batchnorm.BatchNorm3d"
    residual = plan.network.model_copy(update={"blocks": "residual"})
    for other in (small_plan(2), plan.model_copy(update={"network": residual})):
        with pytest.raises(SettingsError, match="plain three-dimensional"):
            nnunet_plan(other)


@pytest.mark.skipif("SEGFLOW_NNUNET_PYTHON" not in os.environ, reason="needs a python of nnU-Net")
def test_nnunet_takes_steps_of_the_same_network(run, tmp_path, monkeypatch):
    python = os.environ["SEGFLOW_NNUNET_PYTHON"]
    options = ("--part", "nnunet", "--nnunet-python", python)
    row = measured(monkeypatch, run, tmp_path / "result.json", *options)["nnunet"]
    own = sum(p.numel() for p in build_model(small_plan(3).network).parameters())
    assert row["weights"]["ours"] == own
    assert row["steps_per_s"]["nnunet"] > 0 and Path(python).exists()
