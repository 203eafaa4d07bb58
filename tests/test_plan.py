import json
from dataclasses import replace

import numpy as np
import pytest

from models import build_model
from pipeline.errors import SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, check
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.manifest import usable_cases
from pipeline.io.volume_store import VolumeStore
from pipeline.plan import Fingerprint, PlanSettings, fingerprint, make_plan, plan
from pipeline.plan_file import read_plan

SERIAL = ExecuteSettings(on="serial")
DATA = DataSettings(
    root="unread",
    layout="msd",
    classes=(
        ClassSettings(name="background", values=(0,), background=True),
        ClassSettings(name="liver", values=(1,)),
    ),
)
CASE = {
    "valid_voxels": 100,
    "channels": [{"mean": 10.0, "std": 2.0}],
    "foreground": [{"mean": 50.0, "std": 5.0, "percentiles": {"0.5": 30.0, "99.5": 70.0}}],
}
SCANS = Fingerprint(
    ndim=3,
    channels=("0",),
    median_shape=(36, 50, 35),
    spacing=(1.0, 1.0, 1.0),
    unit="millimeter",
    scenes=False,
    dtype="float32",
    cases=2,
    statistics=(CASE, {**CASE, "channels": [{"mean": 20.0, "std": 2.0}]}),
)


def decide(found=SCANS, data=DATA, processor="cpu", **settings):
    return make_plan(data, PlanSettings(**settings), found, "key", processor)


@pytest.mark.parametrize("processor", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "shape", [(36, 50, 35), (8, 512, 512), (300, 512, 512), (5, 6, 7), (512, 512), (64, 1000)]
)
def test_every_plan_makes_a_network_that_takes_its_patch(shape, processor):
    found = replace(SCANS, ndim=len(shape), median_shape=shape, spacing=(1.0,) * len(shape))
    made = decide(found, processor=processor)
    assert all(n % s == 0 for n, s in zip(made.patch_shape, made.network.total_stride, strict=True))
    assert build_model(made.network).settings == made.network


def test_slices_far_apart_are_not_mixed_until_the_others_are_as_coarse():
    made = decide(replace(SCANS, median_shape=(20, 256, 256), spacing=(5.0, 0.8, 0.8)))
    assert made.network.strides[1] == (1, 2, 2)
    assert made.network.kernels[0] == (1, 3, 3)
    assert made.network.kernels[-1] == (3, 3, 3)


def test_scans_without_a_scale_are_normalised_by_themselves_and_ct_by_its_foreground():
    assert decide().normalisation.kind == "case"
    ct = decide(data=DATA.model_copy(update={"modality": "ct"})).normalisation
    assert ct.kind == "dataset"
    assert (ct.channels[0].mean, ct.channels[0].std) == (50.0, 5.0)
    assert (ct.channels[0].lower, ct.channels[0].upper) == (30.0, 70.0)


def test_scenes_are_normalised_over_the_dataset():
    scaling = decide(replace(SCANS, scenes=True)).normalisation.channels[0]
    assert scaling.mean == 15.0
    assert scaling.std == pytest.approx(np.sqrt(2.0**2 + 5.0**2))


def test_what_is_set_is_kept_and_every_decision_has_a_reason():
    made = decide(patch_shape=(20, 20, 20), batch_size=7, base_features=8, stages=3)
    assert made.patch_shape == (20, 20, 20)
    assert (made.batch_size, made.network.features) == (7, (8, 16, 32))
    assert set(made.reasons) == {"stages", "patch_shape", "network", "batch_size", "normalisation"}
    assert all(reason for reason in made.reasons.values())


@pytest.fixture
def run(make_msd, take_in, tmp_path):
    data = make_msd(tmp_path / "data")
    take_in(data, tmp_path)
    return data, tmp_path


def go(run, **settings):
    data, folder = run
    return plan(
        data,
        PlanSettings(**settings),
        manifest=folder / "manifest.jsonl",
        volumes=folder / "volumes",
        path=folder / "plan.json",
        processor="cpu",
    )


def test_an_edit_of_plan_json_is_respected_until_what_it_rests_on_changes(run):
    made = go(run)
    path = run[1] / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"batch_size": 3}))
    assert go(run).batch_size == 3
    assert go(run).content_key != made.content_key
    assert go(run, base_features=8).batch_size == made.batch_size


def test_an_edit_that_cannot_be_is_named(run):
    go(run)
    path = run[1] / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"patch_shape": [9, 9, 9]}))
    with pytest.raises(SettingsError, match=r"plan\.json.*no multiple of the network's stride"):
        read_plan(path)


def test_the_fingerprint_is_of_training_cases_and_reads_no_voxel(run, monkeypatch):
    monkeypatch.setattr(VolumeStore, "read", None)
    rows = usable_cases(run[1] / "manifest.jsonl", ["train"])
    found = fingerprint(rows, run[1] / "volumes")
    assert found.cases == len(rows) < 4
    assert found.median_shape == (7, 11, 9)


def test_an_odd_image_is_set_aside_and_the_others_are_planned(
    make_pairs, take_in, write_scene, tmp_path
):
    data = make_pairs(tmp_path / "data", cases=6)
    write_scene(tmp_path / "data/images/tile_3.tif", np.ones((2, 20, 24), np.uint8))
    taken = take_in(data, tmp_path)
    assert list(taken.refused) == ["tile_3"]
    assert "it has 2 axes and 2 channels, most cases have 2 and 3" in taken.refused["tile_3"].reason
    assert go((data, tmp_path)).channels == ("0", "1", "2")
    checked = check(data, IngestSettings(), SERIAL, manifest=tmp_path / "manifest.jsonl")
    assert [f.case for f in checked.findings if f.level == "refused"] == ["tile_3"]
