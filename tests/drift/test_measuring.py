"""What is measured of a case."""

import shutil

import numpy as np
import pytest

from pipeline.drift import measure
from pipeline.drift.quantities import quantities
from pipeline.errors import CaseError, StoreError
from pipeline.normalise import Normalisation
from pipeline.plan_file import Plan, PlannedTarget
from tests.drift.phantoms import BY_CASE, BY_LIMITS, figures, scan, spaced_grid, store
from tests.trained import small_plan

INTENSITIES = {
    "mean of channel 0 less its 1st percentile",
    "median of channel 0 less its mean",
    "99th percentile of channel 0 less its mean",
}


def changed(plan: Plan, **fields) -> Plan:
    return plan.model_copy(update=fields)


def test_a_case_is_measured_without_a_voxel_of_it(make_msd, take_in, tmp_path):
    taken = take_in(make_msd(tmp_path / "data"), tmp_path)
    path = taken.volumes / taken.rows["liver_0"].store
    before = measure(path, (10, 20, 30), BY_CASE)
    for chunk in [*path.rglob("c"), *path.rglob("c.*")]:
        shutil.rmtree(chunk)
    assert measure(path, (10, 20, 30), BY_CASE) == before
    assert before["spacing along z"] == pytest.approx(1.953, abs=1e-3)  # of OBLIQUE


def test_neither_offset_nor_gain_is_measured_where_each_case_is_normalised_by_itself():
    image = scan(0)
    found, other = figures(image), figures(image * np.int16(3) + np.int16(5000))
    assert found.keys() >= INTENSITIES
    assert {n: other[n] for n in INTENSITIES} == pytest.approx({n: found[n] for n in INTENSITIES})


def test_raw_values_are_measured_where_one_scaling_serves_all_cases():
    image = scan(0)
    found = figures(image, BY_LIMITS)
    clipped = np.clip(image, -160, 240)
    # Between two percentiles that are known, values are taken to lie evenly.
    assert found["mean of channel 0"] == pytest.approx(clipped.mean(), abs=3)
    assert found["standard deviation of channel 0"] == pytest.approx(clipped.std(), rel=0.03)
    assert found["99th percentile of channel 0"] == pytest.approx(np.percentile(image, 99))
    assert found["1st percentile of channel 0"] == -160


def test_values_beyond_the_limits_of_the_plan_are_not_told_apart():
    image = scan(0)
    metal = np.where(image > 120, 3000, image).astype(np.int16)
    bright = np.where(image > 120, 2000, image).astype(np.int16)
    # Between two percentiles, one inside the limits, values are taken to lie evenly.
    found = figures(bright, BY_LIMITS)
    assert figures(metal, BY_LIMITS) == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("offset", [0, -60])
def test_zeros_that_stay_zero_are_left_out_of_the_histogram(offset):
    random = np.random.default_rng(0)
    seen = random.normal(100, 30, (1, 20, 20, 20)).astype(np.float32) + offset
    image = np.concatenate([seen, np.zeros_like(seen)], axis=1)
    plan = changed(BY_CASE, normalisation=Normalisation(kind="case", nonzero=True))
    expected = (np.percentile(seen, (1, 50, 99)) - seen.mean()) / seen.std()
    found = figures(image, plan)
    measured = [
        -found["mean of channel 0 less its 1st percentile"],
        found["median of channel 0 less its mean"],
        found["99th percentile of channel 0 less its mean"],
    ]
    # Known to a bin of the histogram, a 256th of the range, which is eight deviations wide.
    assert measured == pytest.approx(list(expected), abs=8 / 256)
    assert found["share of voxels that are not 0"] == 0.5


def test_what_is_nothing_but_zeros_is_measured_too():
    plan = changed(BY_CASE, normalisation=Normalisation(kind="case", nonzero=True))
    found = figures(np.zeros((1, 8, 8, 8), np.uint8), plan)
    assert {found[name] for name in INTENSITIES} == {0}
    assert found["share of voxels that are not 0"] == 0


def test_voxels_without_data_are_a_share_of_the_field():
    valid = np.ones((24, 24, 24), bool)
    valid[:6] = False
    found = figures(scan(0), valid=valid)
    assert found["share of voxels that hold data"] == 0.75


def test_lengths_are_measured_in_the_unit_of_the_training_cases_alone():
    grid = spaced_grid((24, 24, 24), 0.5)
    found = figures(scan(0), affine=grid.affine)
    assert (found["spacing along x"], found["size along x"]) == (0.5, 12)
    assert found["number of axes measured in mm"] == 3
    other = figures(scan(0), unit=None)
    assert other["number of axes measured in mm"] == 0
    assert not any(name.startswith(("spacing", "size")) for name in other)


def test_pictures_have_a_size_in_pixels_and_no_spacing():
    found = figures(scan(0), changed(BY_CASE, unit=None), unit=None)
    assert found["size along x"] == 24
    assert found["number of axes without a unit"] == 3
    assert "spacing along x" not in found


def test_a_scene_may_have_any_size():
    found = figures(scan(0)[:, 0], small_plan(2), crs="a CRS")
    assert "spacing along x" in found
    assert "size along x" not in found


def test_shares_of_classes_are_of_what_is_labelled():
    found = figures(scan(0), class_voxels=(9000, 800, 200))
    assert (found["share of liver"], found["share of tumour"]) == (0.08, 0.02)
    assert "share of background" not in found


@pytest.mark.parametrize("class_voxels", [None, (), (100, 50, 20), (0, 0, 0)])
def test_a_truth_that_says_little_says_nothing_of_shares(class_voxels):
    assert "share of liver" not in figures(scan(0), class_voxels=class_voxels)


def test_of_a_regression_its_numbers_are_measured():
    plan = changed(BY_CASE, classes=(), target=PlannedTarget(name="height", mean=10.0, std=4.0))
    found = figures(scan(0), plan, target={"mean": 12.0, "std": 3.0})
    assert (found["mean of height"], found["standard deviation of height"]) == (12, 3)
    assert "mean of height" not in figures(scan(0), plan)
    assert "mean of height" not in figures(scan(0), plan, target={"mean": None, "std": None})


def test_a_case_of_another_kind_is_refused():
    with pytest.raises(CaseError, match="it has 2 channels, the plan 1. Compare cases of the kind"):
        quantities(store(np.repeat(scan(0), 2, 0)), None, None, BY_CASE)


def test_a_store_of_an_earlier_version_is_measured_unless_the_plan_needs_what_it_lacks():
    old = store(scan(0))
    del old.statistics["nonzero"]
    assert "share of voxels that are not 0" not in quantities(old, None, None, BY_CASE)
    plan = changed(BY_CASE, normalisation=Normalisation(kind="case", nonzero=True))
    with pytest.raises(StoreError, match="run `segflow ingest` again"):
        quantities(old, None, None, plan)
