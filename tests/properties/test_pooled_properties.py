"""Percentiles of a dataset, pooled from its cases', are those of all its voxels together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.statistics import PERCENTILES, Pooled

ASKED = (0.5, 1.0, 25.0, 50.0, 99.5)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(["uint8", "int16", "float32", "saturated", "constant"])


def voxels(kind, random):
    """Give a case's voxels; cases of one dataset differ in size, brightness and spread."""
    number = int(random.integers(200, 5000))
    values = random.normal(random.uniform(20, 200), random.uniform(1, 60), number)
    if kind == "saturated":
        return np.where(random.random(number) < 0.3, 255, values.clip(0, 255).round())
    if kind == "constant":
        return np.full(number, float(random.integers(3)))
    return values.clip(0, 255).astype(kind).astype(np.float64)


def known(values):
    """Give what a store says of a case."""
    found = np.percentile(values, PERCENTILES)
    return len(values), {f"{p:g}": float(v) for p, v in zip(PERCENTILES, found, strict=True)}


def bounds(cases, percent):
    """Between which values the dataset's percentile must lie, by what is known of its cases.

    A case has at least the share of the last percentile at or below a value, and at most that of
    the first one above it.
    """
    knots = [np.percentile(case, PERCENTILES) for case in cases]
    weights = np.array([len(case) for case in cases]) / sum(len(case) for case in cases)
    shares = np.array([*PERCENTILES, 100.0])
    candidates = np.unique(np.concatenate(knots))
    passed = np.array([np.searchsorted(k, candidates, "right") for k in knots])
    most = weights @ shares[passed]
    least = weights @ np.concatenate([[0.0], PERCENTILES])[passed]
    # Ranks of a few voxels, between which numpy interpolates, and rounding.
    slack = 100 * len(cases) / sum(len(case) for case in cases) + 1e-9
    low = candidates[max(0, np.searchsorted(most, percent - slack))]
    above = np.searchsorted(least, percent + slack)
    return low, candidates[min(above, len(candidates) - 1)]


@given(st.lists(kinds, min_size=1, max_size=6), seeds)
def test_pooled_percentiles_are_numpys_within_what_the_known_ones_allow(kinds, seed):
    random = np.random.default_rng(seed)
    cases = [voxels(kind, random) for kind in kinds]
    pooled = Pooled.of(known(case) for case in cases)
    together = np.concatenate(cases)
    for percent in ASKED:
        low, high = bounds(cases, percent)
        assert low <= np.percentile(together, percent) <= high
        assert low <= pooled.percentile(percent) <= high


@given(kinds, seeds)
def test_one_case_has_exactly_its_own_percentiles_however_often_it_is_pooled(kind, seed):
    weight, percentiles = known(voxels(kind, np.random.default_rng(seed)))
    once, twice = Pooled.of([(weight, percentiles)]), Pooled.of([(weight, percentiles)] * 2)
    for percent in PERCENTILES:
        assert once.percentile(percent) == percentiles[f"{percent:g}"]
        assert twice.percentile(percent) == percentiles[f"{percent:g}"]


@given(st.lists(kinds, min_size=2, max_size=6), seeds)
def test_neither_the_order_of_cases_nor_one_without_voxels_matters(kinds, seed):
    random = np.random.default_rng(seed)
    cases = [known(voxels(kind, random)) for kind in kinds]
    _, elsewhere = known(voxels("float32", random) + 1e6)
    one, other = Pooled.of(cases), Pooled.of([(0, elsewhere), *cases[::-1]])
    for percent in ASKED:
        assert one.percentile(percent) == pytest.approx(other.percentile(percent), rel=1e-9)
    assert one.clipped(10, 100) == pytest.approx(other.clipped(10, 100), rel=1e-9)


@given(st.lists(kinds.filter(lambda k: k != "constant"), min_size=1, max_size=4), seeds)
def test_moments_of_clipped_voxels_are_nearly_numpys(kinds, seed):
    random = np.random.default_rng(seed)
    cases = [voxels(kind, random) for kind in kinds]
    together = np.concatenate(cases)
    lower, upper = np.percentile(together, [0.5, 99.5])
    mean, std = Pooled.of(known(case) for case in cases).clipped(lower, upper)
    expected = np.clip(together, lower, upper)
    # Voxels that are taken to lie evenly between two known percentiles may all be at one of them:
    # a twentieth of a case, where half of its range is empty.
    assert mean == pytest.approx(expected.mean(), abs=0.1 * expected.std())
    assert std == pytest.approx(expected.std(), rel=0.1)


def test_moments_of_evenly_spread_voxels_are_exact():
    pooled = Pooled.of([(3, {"0": 0.0, "100": 12.0}), (1, {"0": 6.0, "50": 6.0, "100": 6.0})])
    # Three quarters even from 0 to 12, clipped to 3 … 9; a quarter at 6.
    even = np.clip((np.arange(120_000) + 0.5) / 10_000, 3, 9)
    mean, std = pooled.clipped(3, 9)
    assert mean == pytest.approx(6)
    assert std == pytest.approx(np.sqrt(0.75 * ((even - 6) ** 2).mean()), rel=1e-6)
    assert pooled.percentile(50) == 6.0
    assert pooled.clipped(20, 30) == (20.0, 0.0)


def test_a_glitch_in_one_case_does_not_reach_the_datasets_percentiles():
    random = np.random.default_rng(0)
    cases = [random.normal(1000, 100, 20_000) for _ in range(10)]
    cases[3][:90] = 65_535  # not half a percent of the case
    cases[5][:400] = 65_535  # two percent of the case, a fifth of a percent of all
    pooled, together = Pooled.of(map(known, cases)), np.concatenate(cases)
    # The last percentiles that are known of case 3 lie on both sides of the glitch.
    assert pooled.percentile(99.5) == pytest.approx(np.percentile(together, 99.5), abs=200)
    _, std = pooled.clipped(pooled.percentile(0.5), pooled.percentile(99.5))
    assert std == pytest.approx(100, rel=0.05)
    assert together.std() > 3000
