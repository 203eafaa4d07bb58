import numpy as np
import pytest
from scipy import stats

from pipeline import confidence
from pipeline.confidence import MIN_CASES, case_bootstrap, expanded_tail, interval


@pytest.fixture
def table() -> np.ndarray:
    """Skewed figures of 40 cases and 3 columns, a third of them absent."""
    rng = np.random.default_rng(3)
    figures = rng.beta(8, 2, (40, 3))
    figures[rng.random(figures.shape) < 0.3] = np.nan
    return figures


def test_an_interval_is_scipys_percentile_bootstrap_of_the_same_draws_taken_further_out():
    values = np.random.default_rng(1).beta(8, 2, 23)

    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2000,
        confidence_level=1 - 2 * expanded_tail(23, 0.95),
        method="percentile",
        rng=np.random.default_rng(0),
    )

    assert interval(values) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)


def test_the_interval_of_a_mean_of_means_draws_whole_cases(table):
    def mean_of_means(drawn: np.ndarray) -> float:
        return float(np.nanmean(np.nanmean(table[drawn], axis=0)))

    known = np.flatnonzero(~np.isnan(table).all(axis=1))
    theirs = stats.bootstrap(
        (known,),
        mean_of_means,
        n_resamples=2000,
        method="percentile",
        vectorized=False,
        confidence_level=1 - 2 * expanded_tail(len(known), 0.95),
        rng=np.random.default_rng(0),
    )

    assert case_bootstrap(table).mean == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)


def test_the_interval_of_a_full_table_s_column_is_the_one_it_has_alone(table):
    full = np.nan_to_num(table, nan=0.5)

    for told, column in zip(case_bootstrap(full).columns, full.T, strict=True):
        assert told == pytest.approx(interval(column), abs=1e-12)


def test_intervals_do_not_depend_on_how_many_draws_fit_in_memory(table, monkeypatch):
    whole = case_bootstrap(table)
    monkeypatch.setattr(confidence, "BLOCK_DRAWS", 700)

    assert case_bootstrap(table) == whole


def test_a_case_without_any_figure_changes_nothing(table):
    blank = np.full((5, 3), np.nan)

    assert case_bootstrap(np.vstack([blank, table, blank])) == case_bootstrap(table)


def test_too_few_cases_have_no_interval(table):
    assert interval([0.9] * (MIN_CASES - 1)) is None
    assert interval([0.9] * (MIN_CASES - 1) + [float("nan")]) is None
    assert interval([]) is None
    assert interval([0.9] * MIN_CASES) == pytest.approx((0.9, 0.9))

    table[4:, 1] = np.nan
    found = case_bootstrap(table)
    assert [told is None for told in found.columns] == [False, True, False]
    assert found.mean is not None


def test_an_interval_at_a_lower_level_lies_within_that_at_a_higher():
    values = np.random.default_rng(1).beta(8, 2, 23)
    narrow, wide = interval(values, level=0.5), interval(values, level=0.99)

    assert wide[0] < narrow[0] < np.mean(values) < narrow[1] < wide[1]


def test_an_interval_of_normal_figures_is_about_student_s():
    values = np.random.default_rng(2).normal(0.8, 0.05, 30)
    ours = interval(values, repeats=20_000)
    theirs = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))

    # a twentieth of the width: the draws are finite, and the figures not quite symmetric
    assert ours == pytest.approx(theirs, abs=0.05 * (theirs[1] - theirs[0]))


@pytest.mark.parametrize(("cases", "least"), [(6, 0.88), (40, 0.91)])
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(cases: int, least: float):
    rng = np.random.default_rng(0)
    found = [interval(rng.beta(8, 2, cases), repeats=500) for _ in range(300)]
    held = np.mean([low <= 0.8 <= high for low, high in found])

    assert least <= held <= 0.98
