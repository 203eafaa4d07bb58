"""The new cases as a whole against the training cases."""

from math import log

import numpy as np
import pytest

from pipeline.drift import DriftSettings, Reference, find_drift
from tests.drift.phantoms import known, of

MEAN = "mean of channel 0"


def whole(reference, values, settings=None):
    """Flags of the new cases as a whole, of one quantity."""
    (name,) = reference.quantities
    cases = {f"case_{number}": {name: float(v)} for number, v in enumerate(values)}
    found = find_drift(settings or DriftSettings(), reference, cases)
    return [flag for flag in found if flag.case is None]


def test_a_shift_that_no_case_shows_is_flagged_of_the_whole():
    reference = of(values=np.linspace(0, 100, 40))
    night = np.linspace(85, 110, 10)
    (flag,) = find_drift(DriftSettings(), reference, {str(v): {MEAN: v} for v in night})
    assert (flag.case, flag.quantity, flag.value) == (None, MEAN, pytest.approx(97.5))
    assert flag.expected == (25, 75)
    assert flag.sentence == (
        "the new cases as a whole: in 10 of 10 the mean of channel 0 is above 84.62, in 6 of 40 "
        "training cases; by chance this is so in fewer than one of 100,000 nights."
    )


def test_a_shift_downwards_is_told_as_such():
    (flag,) = whole(of(values=np.linspace(0, 100, 40)), np.linspace(0, 10, 10))
    assert "in 10 of 10 the mean of channel 0 is at most 10, in 4 of 40" in flag.sentence


def test_of_few_new_cases_nothing_is_said():
    reference = of(values=np.linspace(0, 100, 40))
    assert whole(reference, np.linspace(85, 110, 7)) == []
    assert len(whole(reference, np.linspace(85, 110, 7), DriftSettings(fewest=7))) == 1


def test_what_is_certain_but_makes_no_difference_is_not_flagged():
    reference = of("spacing along z", values=[1.0] * 200, slack=log(1.1), ratios=True)
    assert whole(reference, [1.0000001] * 100) == []
    assert len(whole(reference, [1.2] * 100)) == 1


def test_a_class_lost_by_most_masks_is_flagged_of_the_whole():
    reference = of("share of liver", values=[0.0, *np.geomspace(0.01, 0.1, 60)], ratios=True)
    (flag,) = whole(reference, [0.0] * 9 + [0.05])
    assert "in 9 of 10 the share of liver is at most 0, in 1 of 61 training cases" in flag.sentence
    assert whole(of("share of liver", values=[0.0] * 60, ratios=True), [0.0] * 10) == []


def test_the_more_is_compared_the_surer_a_difference_must_be():
    values, night = np.linspace(0, 100, 40), np.linspace(75, 76, 8)
    settings = DriftSettings(significance=0.002)
    assert len(whole(of(values=values), night, settings)) == 1
    others = {f"other {n}": known(values) for n in range(99)}
    reference = Reference(40, {MEAN: known(values), **others})
    cases = {str(v): {MEAN: v, **dict.fromkeys(others, 50.0)} for v in night}
    assert MEAN not in {flag.quantity for flag in find_drift(settings, reference, cases)}


@pytest.mark.parametrize("training, new", [(12, 8), (30, 30), (140, 20)])
def test_chance_alone_seldom_flags_a_night(training, new):
    random = np.random.default_rng(training)
    flagged = 0
    for night in range(200):
        # Figures of many scales, some of them whole numbers, that are alike more often than not.
        drawn = random.lognormal(size=(12, training + new))
        drawn = np.rint(drawn) if night % 2 else drawn
        known_figures = {str(q): known(row[:training]) for q, row in enumerate(drawn)}
        cases = {
            str(c): dict(zip(known_figures, drawn[:, training + c], strict=True))
            for c in range(new)
        }
        found = find_drift(DriftSettings(), Reference(training, known_figures), cases)
        flagged += any(flag.case is None for flag in found)
    # Two of 200 are to be expected at most; of that, seven come once in two hundred times.
    assert flagged < 7
