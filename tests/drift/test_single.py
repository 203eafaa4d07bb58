"""One case against the training cases."""

from math import log

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.drift import DriftSettings, Flag, find_drift
from pipeline.drift.reference import Reference
from pipeline.drift.single import MANY, limits
from tests.drift.phantoms import known, of

SETTINGS = DriftSettings()
MEAN = "mean of channel 0"
LIVER = "share of liver"


def flags(reference, settings=SETTINGS, **cases):
    """Flags of cases of one quantity."""
    (name,) = reference.quantities
    return find_drift(settings, reference, {case: {name: value} for case, value in cases.items()})


def test_a_case_far_out_is_flagged_in_plain_words():
    reference = of(values=np.linspace(95, 240, 30))
    assert flags(reference, case_17=812.0) == [
        Flag(
            "case_17",
            MEAN,
            812.0,
            (95.0, 240.0),
            "case_17: the mean of channel 0 is 812; training cases lie between 95 and 240.",
        )
    ]


def test_a_margin_beyond_the_range_is_left():
    reference = of(values=np.linspace(0, 100, MANY))
    assert flags(reference, low=-49.0, high=149.0) == []
    assert [flag.case for flag in flags(reference, low=-51.0, high=151.0)] == ["low", "high"]
    strict = DriftSettings(margin=0)
    assert [flag.case for flag in flags(reference, strict, inside=100.0, out=101.0)] == ["out"]


def test_the_range_of_few_cases_is_taken_to_be_wider():
    few, many = (limits(known(np.linspace(0, 1, n)), 0.5) for n in (10, MANY))
    assert few[0] < many[0] == -0.5
    assert few[1] > many[1] == 1.5


def test_where_all_training_cases_agree_a_difference_must_be_one_to_a_network():
    reference = of("spacing along z", values=[1.0] * 20, slack=log(1.1), unit="mm", ratios=True)
    assert flags(reference, rounded=1.0000001, close=1.09) == []
    (flag,) = flags(reference, thick=5.0)
    assert flag.sentence == (
        "thick: the spacing along z is 5 mm; it is 1 in each of the 20 training cases."
    )


def test_shares_are_compared_by_factors():
    reference = of(LIVER, values=np.geomspace(0.001, 0.1, MANY), unit="%", ratios=True)
    assert flags(reference, small=0.00011, large=0.9) == []
    (flag,) = flags(reference, tiny=0.00009)
    assert flag.sentence == (
        "tiny: the share of liver is 0.009 %; training cases lie between 0.1 and 10 %."
    )


def test_a_class_that_every_training_case_has_must_not_be_absent():
    reference = of(LIVER, values=np.geomspace(0.01, 0.1, 20), unit="%", ratios=True)
    (flag,) = flags(reference, empty=0.0)
    assert flag.sentence == ("empty: the share of liver is 0, as in none of the 20 training cases.")


def test_a_class_that_some_training_cases_lack_may_be_absent_or_small():
    reference = of(LIVER, values=[0.0, *np.geomspace(0.01, 0.1, 20)], ratios=True)
    assert flags(reference, empty=0.0, speck=1e-7) == []
    assert len(flags(reference, full=1.0)) == 1


def test_a_class_that_no_training_case_has_must_not_be_there():
    reference = of(LIVER, values=[0.0] * 20, unit="%", ratios=True)
    assert flags(reference, empty=0.0) == []
    (flag,) = flags(reference, some=0.03)
    assert flag.sentence == (
        "some: the share of liver is 3 %; it is 0 in each of the 20 training cases."
    )


def test_a_class_that_few_training_cases_have_may_have_any_size():
    reference = of(LIVER, values=[0.0] * 20 + [0.01] * 4, ratios=True)
    assert flags(reference, large=0.9) == []


def test_the_case_that_lies_furthest_out_comes_first():
    quantities = {name: known(np.linspace(0, 1, 20)) for name in ("a", "b")}
    cases = {"near": {"a": 5.0}, "far": {"a": 5.0, "b": 50.0}, "inside": {"a": 0.5}}
    found = find_drift(SETTINGS, Reference(20, quantities), cases)
    assert [(flag.case, flag.quantity) for flag in found] == [
        ("far", "b"),
        ("far", "a"),
        ("near", "a"),
    ]


def test_figures_that_one_side_lacks_are_not_compared():
    reference = of(values=np.linspace(0, 1, 20))
    assert find_drift(SETTINGS, reference, {"new": {"other": 1000.0}}) == []
    assert find_drift(SETTINGS, reference, {}) == []


def test_nothing_is_flagged_where_drift_is_not_looked_for():
    reference = of(values=np.linspace(0, 1, 20))
    assert flags(reference, DriftSettings(enabled=False), far=1000.0) == []


@pytest.mark.parametrize("ratios", [False, True])
def test_the_widest_range_has_limits(ratios):
    low, high = limits(known([1e-300, *[1.0] * 8, 1e300], ratios=ratios), 10)
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("cases", [10, 20, 100])
def test_cases_like_those_of_the_training_are_rarely_flagged(cases):
    random = np.random.default_rng(cases)
    flagged = 0
    for _ in range(20):
        drawn = random.normal(size=(20, cases + 50))  # twenty quantities
        quantities = {str(q): known(row[:cases]) for q, row in enumerate(drawn)}
        new = {str(c): dict(zip(quantities, drawn[:, c], strict=True)) for c in range(-50, 0)}
        found = find_drift(DriftSettings(fewest=1000), Reference(cases, quantities), new)
        flagged += len({flag.case for flag in found})
    assert flagged / (20 * 50) < 0.05


@pytest.mark.parametrize("change", [{"margin": -1}, {"significance": 0}, {"fewest": 1}, {"no": 1}])
def test_settings_that_mean_nothing_are_refused(change):
    with pytest.raises(ValidationError):
        DriftSettings(**change)


def test_every_setting_is_explained():
    assert all(field.description for field in DriftSettings.model_fields.values())
