import json
from dataclasses import replace
from math import prod

import numpy as np
import pytest

from models import build_model, fitting_shape, preset
from models.losses import BCESettings, BorderSettings, CrossEntropySettings, DiceCESettings
from pipeline.errors import SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, check
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.manifest import usable_cases
from pipeline.io.volume_store import VolumeStore
from pipeline.plan_file import read_plan
from pipeline.planning import Fingerprint, PlanSettings, fingerprint, make_plan, plan
from pipeline.planning.network import step_bytes

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
    "class_voxels": [90, 10],
    "channels": [{"mean": 10.0, "std": 2.0, "percentiles": {"0": 4.0, "50": 10.0, "100": 16.0}}],
    "foreground": [
        {"voxels": 10, "mean": 50.0, "std": 5.0, "percentiles": {"0.5": 30.0, "99.5": 70.0}}
    ],
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


def test_what_is_set_is_kept_and_every_decision_has_a_reason():
    made = decide(patch_shape=(20, 20, 20), batch_size=7, base_features=8, stages=3)
    assert made.patch_shape == (20, 20, 20)
    assert (made.batch_size, made.network.features) == (7, (8, 16, 32))
    assert set(made.reasons) == {
        *("spacing", "stages", "patch_shape", "network", "loss", "batch_size", "normalisation")
    }
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
    with pytest.raises(
        SettingsError, match=r"plan\.json.*patch_shape: .* in steps of its total stride"
    ):
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


SCENES = replace(
    SCANS,
    ndim=2,
    median_shape=(512, 512),
    spacing=(1.0, 1.0),
    statistics=(CASE | {"class_voxels": [900, 100]}, CASE | {"class_voxels": [700, 300]}),
)


def test_a_published_network_is_taken_as_it_is_and_shown_what_it_loses():
    made = decide(SCENES, network="unet-2015")
    assert made.network == preset("unet-2015", 2, 1, 2)
    assert made.margin == (92, 92)
    labelled = tuple(n - 184 for n in decide(SCENES, network="unet-2015").patch_shape)
    assert 200**2 < labelled[0] * labelled[1] <= 256**2
    assert made.patch_shape == fitting_shape(made.network, made.patch_shape)
    assert decide(SCENES, network="unet-2015", patch_shape=(572, 572)).patch_shape == (572, 572)
    assert "as published" in made.reasons["network"]


def test_single_fields_of_a_network_can_be_set():
    made = decide(SCENES, network="unet-small", network_options={"norm": "batch"})
    assert made.network.norm == "batch"
    assert made.network.features == preset("unet-small", 2, 1, 2).features
    assert decide(network_options={"dropout": 0.3}).network.dropout == 0.3
    with pytest.raises(SettingsError, match=r"plan\.network_options\.droput: Extra inputs"):
        decide(network_options={"droput": 0.3})
    with pytest.raises(SettingsError, match=r"plan\.network: there is no preset 'resnet'"):
        decide(network="resnet")


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [
        (None, 2),
        (BCESettings(), 1),
        (BCESettings(regions=((1,), (0, 1))), 2),
        (CrossEntropySettings(border=BorderSettings()), 2),
    ],
)
def test_the_network_gives_what_its_loss_takes(loss, outputs):
    made = decide(SCENES, loss=loss)
    assert made.network.out_channels == outputs
    assert made.loss == (loss or DiceCESettings())
    assert made.decision.kind == ("sigmoid" if isinstance(loss, BCESettings) else "softmax")


def test_balanced_classes_weigh_the_same_together():
    made = decide(SCENES, loss=CrossEntropySettings(), balance_classes=True)
    assert made.loss.class_weights == pytest.approx((2000 / 2 / 1600, 2000 / 2 / 400))
    with pytest.raises(SettingsError, match=r"balance_classes sets the class weights"):
        decide(SCENES, balance_classes=True)


def test_a_regression_is_planned_for_its_target():
    data = DataSettings(root="unread", layout="pairs", task="regression", target="height")
    cases = [
        {"count": 10, "mean": 2.0, "std": 1.0},
        {"count": 30, "mean": 6.0, "std": 1.0},
        {"count": 0, "mean": 0.0, "std": 0.0},
    ]
    found = replace(SCENES, statistics=tuple(CASE | {"target": case} for case in cases))
    made = decide(found, data)
    assert (made.task, made.classes, made.network.out_channels) == ("regression", (), 1)
    assert (made.target.name, made.target.mean) == ("height", 5.0)
    assert made.target.std == pytest.approx(np.sqrt(1 + 3.0))
    assert (made.mask_dtype, made.loss.kind) == (np.float32, "smooth_l1")
    with pytest.raises(SettingsError, match="dice_ce does not go with a regression"):
        decide(found, data, loss=DiceCESettings())


def test_what_patches_rest_on_does_not_change_with_what_they_do_not():
    made = decide(SCENES)
    assert decide(SCENES, loss=BCESettings()).patch_key == made.patch_key
    border = decide(SCENES, loss=CrossEntropySettings(border=BorderSettings()))
    assert border.patch_key != made.patch_key
    assert decide(SCENES, patch_shape=(64, 64)).patch_key != made.patch_key


def spaced(*spacings, shape=(40, 50, 35)):
    return replace(
        SCANS,
        cases=len(spacings),
        shapes=(shape,) * len(spacings),
        spacings=spacings,
        units=frozenset({"millimeter"}),
        spacing=tuple(np.median(spacings, axis=0)),
        median_shape=shape,
    )


def test_cases_of_differing_spacing_are_brought_to_the_median():
    made = decide(spaced((1.0, 1, 1), (1.5, 1, 1), (2.0, 1.2, 1)))
    assert (made.spacing, made.resample) == ((1.5, 1.0, 1.0), True)
    assert "differ by up to 100%" in made.reasons["spacing"]
    assert "median of each axis" in made.reasons["spacing"]
    # Half a percent is how scanners round.
    same = decide(spaced((1.0, 1, 1), (1.005, 1, 1)))
    assert not same.resample and "nothing is resampled" in same.reasons["spacing"]


def test_on_the_coarse_axis_of_anisotropic_scans_it_is_the_10th_percentile():
    slices = [*np.linspace(3, 6, 11)]
    made = decide(spaced(*((s, 0.8, 0.8) for s in slices), shape=(30, 200, 200)))
    assert made.spacing == pytest.approx((3.3, 0.8, 0.8)) and made.resample
    assert "on the coarse axis 0 to the 10th percentile" in made.reasons["spacing"]
    # Few thick slices among thin ones never make voxels finer than in the plane.
    found = spaced((0.5, 0.8, 0.8), *(((6.0, 0.8, 0.8),) * 5), shape=(30, 200, 200))
    assert decide(found).spacing == pytest.approx((3.25, 0.8, 0.8))
    # As many slices as pixels: not anisotropic, for nnU-Net as for us.
    deep = spaced(*((s, 0.8, 0.8) for s in slices), shape=(300, 200, 200))
    assert decide(deep).spacing == pytest.approx((4.5, 0.8, 0.8))


def test_a_spacing_that_is_set_is_kept():
    found = spaced((1.0, 1, 1), (2.0, 1, 1))
    made = decide(found, spacing="native")
    assert not made.resample and "keeps its own" in made.reasons["spacing"]
    made = decide(found, spacing=(0.5, 2.0, 2.0))
    assert (made.spacing, made.resample) == ((0.5, 2.0, 2.0), True)
    with pytest.raises(SettingsError, match="has 2 axes, the images 3"):
        decide(found, spacing=(1.0, 1.0))
    pixels = replace(found, units=frozenset({"millimeter", None}))
    made = decide(pixels)
    assert not made.resample and "not lengths in one unit" in made.reasons["spacing"]


LARGE = replace(SCANS, median_shape=(300, 512, 512), spacing=(1.0, 1.0, 1.0))


def test_where_memory_is_short_the_batch_falls_first_and_then_patches_shrink():
    def made(gigabytes, **settings):
        bytes_ = None if gigabytes is None else int(gigabytes * 2**30)
        return make_plan(DATA, PlanSettings(**settings), LARGE, "key", "cuda", bytes_)

    roomy, plenty = made(None), made(64)
    assert (plenty.patch_shape, plenty.batch_size) == (roomy.patch_shape, roomy.batch_size)
    assert "of the 64 it may" in plenty.reasons["memory"]
    short = made(3)
    assert short.batch_size == 2 and prod(short.patch_shape) < prod(roomy.patch_shape)
    assert step_bytes(short.network, short.patch_shape, 2) <= 3 * 2**30
    # As large as fits: a fifth more would not.
    assert step_bytes(short.network, short.patch_shape, 2) > 0.5 * 3 * 2**30
    flat = replace(LARGE, ndim=2, median_shape=(512, 512), spacing=(1.0, 1.0))
    few = make_plan(DATA, PlanSettings(), flat, "key", "cuda", 2 * 2**30)
    assert few.patch_shape == (512, 512) and 2 <= few.batch_size < 12
    assert few.reasons["batch_size"] == "as many as fit in memory"


def test_a_patch_that_is_set_is_kept_and_told_when_it_is_too_large():
    settings = PlanSettings(patch_shape=(96, 96, 96))
    made = make_plan(DATA, settings, LARGE, "key", "cpu", 2**28)
    assert made.patch_shape == (96, 96, 96)
    assert "more than there is; lower plan.base_features" in made.reasons["memory"]
