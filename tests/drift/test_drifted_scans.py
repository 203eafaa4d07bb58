"""Scans that are not like those of the training, and scans that are."""

import numpy as np
import pytest

from pipeline.drift import DriftSettings, find_drift
from tests.drift.phantoms import BY_CASE, BY_LIMITS, figures, reference, scan, spaced_grid

PLANS = {"by case": BY_CASE, "by limits": BY_LIMITS}
NEW = range(100, 112)


@pytest.fixture(scope="module", params=list(PLANS))
def trained(request):
    """A plan, and what is known of its thirty training cases."""
    plan = PLANS[request.param]
    return plan, reference(plan, [scan(seed) for seed in range(30)])


@pytest.fixture(scope="module")
def trained_by_limits():
    return BY_LIMITS, reference(BY_LIMITS, [scan(seed) for seed in range(30)])


def flagged(trained, change=lambda image: image, **about):
    """Of new scans, changed: share of cases flagged, and quantities of the whole."""
    plan, known = trained
    cases = {str(seed): figures(change(scan(seed)), plan, **about) for seed in NEW}
    found = find_drift(DriftSettings(), known, cases)
    share = len({flag.case for flag in found if flag.case}) / len(cases)
    return share, {flag.quantity for flag in found if flag.case is None}


def blank_half(image):
    half = image.copy()
    half[..., : image.shape[-1] // 2] = 0
    return half


def flat(image):
    return np.full_like(image, 77)


def noisy(image):
    noise = np.random.default_rng(0).normal(0, 100, image.shape)
    return (image + noise).astype(np.int16)


def test_scans_like_those_of_the_training_are_not_flagged(trained):
    assert flagged(trained) == (0, set())


@pytest.mark.parametrize("change", [blank_half, flat])
def test_scans_that_lack_their_content_are_flagged(trained, change):
    share, whole = flagged(trained, change)
    assert share == 1
    assert whole


def test_voxels_of_another_size_are_flagged(trained):
    share, whole = flagged(trained, affine=spaced_grid((24, 24, 24), 2.0).affine)
    assert share == 1
    assert {"spacing along z", "size along z"} <= whole


def test_scans_in_another_unit_are_flagged(trained):
    assert flagged(trained, unit="meter") == (1, {"number of axes measured in mm"})


def test_half_a_field_without_data_is_flagged(trained):
    valid = np.arange(24) < 12
    share, whole = flagged(trained, valid=np.broadcast_to(valid, (24, 24, 24)))
    assert share == 1
    assert "share of voxels that hold data" in whole


@pytest.mark.parametrize("change", [lambda i: i + np.int16(1024), lambda i: -i, noisy])
def test_intensities_that_are_no_hounsfield_units_are_flagged(trained_by_limits, change):
    share, whole = flagged(trained_by_limits, change)
    assert share > 0.5
    assert whole


def test_twice_the_intensity_is_flagged_only_where_intensities_have_a_scale(trained_by_limits):
    by_case = BY_CASE, reference(BY_CASE, [scan(seed) for seed in range(30)])
    double = lambda image: image * np.int16(2)  # noqa: E731
    assert flagged(by_case, double) == (0, set())
    assert flagged(trained_by_limits, double)[1]
