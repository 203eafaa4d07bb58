import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline.comparison import FIGURES, compare, sentence
from pipeline.confidence import case_bootstrap
from pipeline.errors import SettingsError

VOXELS = 10_000


def dice_row(case: str, split: str, name: str, dice: float | None, truth: int) -> dict[str, Any]:
    """A row as scores.json holds it, of a mask as large as its truth."""
    tp = round((dice or 0) * truth)
    counts = {"tp": tp, "fp": truth - tp, "fn": truth - tp, "tn": VOXELS - 2 * truth + tp}
    return {"case": case, "split": split, "class": name, "dice": dice, **counts}


def scores_of(table: np.ndarray, split: str = "test", **changes: Any) -> dict[str, Any]:
    """scores.json of figures by case and class, (cases, classes), NaN where empty."""
    rows = [
        dice_row(f"case_{i:02}", split, f"class_{k}", None if np.isnan(v) else v, 100 * (i + k + 1))
        for (i, k), v in np.ndenumerate(table)
    ]
    return {"model_id": "unet-1", "task": "segmentation", "split": split, "cases": rows} | changes


@pytest.fixture
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Dice of 20 cases and 3 classes, some empty; B is better, in the first class most."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0.5, 0.9, (20, 3))
    b = a + rng.normal([0.05, 0.01, 0.0], 0.02, (20, 3))
    b[0, 2] = a[0, 2]
    for table in (a, b):
        table[3:5, 1] = np.nan
    b[7, 0] = np.nan
    return a, b


def test_the_test_of_a_class_is_scipys_paired_wilcoxon(tables):
    a, b = tables
    found = compare(scores_of(a), scores_of(b))

    for k, row in enumerate(found.classes):
        both = ~np.isnan(a[:, k] + b[:, k])
        gaps = (b - a)[both, k]
        theirs = stats.wilcoxon(gaps[gaps != 0], method="exact")
        assert row.p == pytest.approx(theirs.pvalue)
        assert row.cases == both.sum()
        assert row.difference == pytest.approx((b - a)[both, k].mean())
    assert found.classes[0].alone == 1


def test_p_of_classes_is_corrected_after_holm(tables):
    found = compare(*map(scores_of, tables)).classes
    ordered = sorted(found, key=lambda row: row.p)

    # of three tests: the least p three times, the next twice, none below one before it
    wanted = np.maximum.accumulate(
        [min(1, f * row.p) for f, row in zip((3, 2, 1), ordered, strict=True)]
    )
    assert [row.p_holm for row in ordered] == pytest.approx(list(wanted))


def test_the_overall_difference_is_the_mean_over_classes_of_means_over_cases(tables):
    a, b = tables
    found = compare(scores_of(a), scores_of(b)).overall

    both = np.where(np.isnan(a + b), np.nan, 1)
    mean_a, mean_b = (np.nanmean(np.nanmean(t * both, axis=0)) for t in (a, b))
    assert (found.a, found.b) == pytest.approx((mean_a, mean_b))
    assert found.difference == pytest.approx(mean_b - mean_a)
    assert found.interval == case_bootstrap(b - a).mean
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.p == pytest.approx(stats.wilcoxon(np.nanmean(b - a, axis=1)).pvalue)
    assert found.better + found.worse == found.cases == 20


def test_the_effect_is_the_share_of_ranks_that_gain_less_those_that_lose():
    a = np.full((7, 1), 0.5)
    b = a + np.array([[0.01, 0.02, 0.03, 0.04, 0.05, -0.06, 0.0]]).T
    row = compare(scores_of(a), scores_of(b)).classes[0]

    assert row.effect == pytest.approx((15 - 6) / 21)
    assert (row.better, row.worse, row.cases) == (5, 1, 7)


def test_changes_are_ordered_from_the_greatest_gain_to_the_greatest_loss(tables):
    a, b = tables
    changes = compare(scores_of(a), scores_of(b)).changes

    gaps = (b - a)[~np.isnan(b - a)]
    assert [change.gain for change in changes] == pytest.approx(sorted(gaps, reverse=True))


def test_less_is_better_where_a_figure_is_an_error():
    a = np.full((8, 1), 0.8)
    far, near = (scores_of(a, units={"distance": "mm"}) for _ in range(2))
    for distance, scores in ((9.0, far), (6.5, near)):
        for number, row in enumerate(scores["cases"]):
            row["hd95"] = distance + number / 10 * (distance > 7)
    found = compare(far, near, "hd95")

    assert (found.overall.better, found.overall.worse, found.unit) == (8, 0, "mm")
    assert found.overall.difference < 0 < found.overall.effect
    assert sentence(found.overall, found.figure, found.unit).startswith(
        "B is better by 2.8500 mm HD95 (95 % 2."
    )
    assert sentence(compare(near, far, "hd95").overall, FIGURES["hd95"], "mm").startswith(
        "B is worse by 2.8500 mm HD95 (95 % 2."
    )


def test_the_same_scores_are_told_as_no_difference(tables):
    scores = scores_of(tables[0])
    found = compare(scores, scores)

    assert sentence(found.overall, found.figure) == "no difference: Dice is the same in 20 cases"
    assert (found.overall.p, found.overall.effect) == (1.0, 0.0)


def test_too_few_cases_are_told_and_not_tested():
    a = np.array([[0.5], [0.6], [0.7]])
    found = compare(scores_of(a), scores_of(a + 0.1)).overall

    assert (found.p, found.interval, found.effect) == (None, None, None)
    assert sentence(found, FIGURES["dice"]) == (
        "B is better by 0.1000 Dice, in 3 of 3 cases: too few cases for a test"
    )


def test_a_difference_that_may_be_chance_is_not_called_better(tables):
    noise = tables[0] + np.random.default_rng(6).normal(0, 0.02, (20, 3))
    found = compare(scores_of(tables[0]), scores_of(noise)).overall

    assert found.p > 0.05
    assert sentence(found, FIGURES["dice"]).startswith("no difference is proven: B is ")


def test_cases_of_one_run_alone_and_cases_one_may_have_learnt_from_are_left_out(tables):
    a, b = scores_of(tables[0]), scores_of(tables[1])
    a["cases"] = [row for row in a["cases"] if row["case"] != "case_00"]
    for row in b["cases"]:
        row["split"] = "train" if row["case"] in ("case_01", "case_02") else "test"
    found = compare(a, b)

    assert found.cases == tuple(f"case_{i:02}" for i in range(3, 20))
    assert found.notes == (
        "only B has scored 1 case (case_00): not compared",
        "A held 2 cases (case_01, case_02) out, B may have learnt from them: not compared",
    )


def test_cases_scored_against_different_truths_are_left_out(tables):
    a, b = scores_of(tables[0]), scores_of(tables[1])
    changed = next(row for row in b["cases"] if row["case"] == "case_04")
    changed["fn"] += 1
    changed["tn"] -= 1
    found = compare(a, b)

    assert found.notes == (
        "A and B scored 1 case (case_04) against different truths: not compared",
    )
    assert "case_04" not in found.cases


def test_classes_of_one_run_alone_are_told(tables):
    a, b = scores_of(tables[0]), scores_of(tables[1][:, :2])
    found = compare(a, b)

    assert found.notes == ("A alone scores class_2: not compared",)
    assert [row.name for row in found.classes] == ["class_0", "class_1"]


def test_regions_are_compared_where_both_score_them(tables):
    a, b = (scores_of(table) for table in tables)
    for scores in (a, b):
        rows = [row for row in scores["cases"] if row["class"] == "class_0"]
        scores["region_cases"] = [
            {**{k: v for k, v in row.items() if k != "class"}, "region": "whole"} for row in rows
        ]
    found = compare(a, b)

    assert [row.name for row in found.regions] == ["whole"]
    assert found.regions[0].difference == found.classes[0].difference


def errors_of(mae: np.ndarray, spread: float = 4.0) -> dict[str, Any]:
    """scores.json of a regression."""
    rows = [
        {"case": f"case_{i}", "split": "test", "target": "height", "mae": v, "mse": v * v * 2}
        | {"rmse": v * 2**0.5, "r2": 1 - v * v * 2 / spread, "count": 100 + i}
        for i, v in enumerate(mae.tolist())
    ]
    return {"model_id": "unet-2", "task": "regression", "split": "test", "cases": rows}


def test_regressions_are_compared_by_their_mean_absolute_error():
    mae = np.linspace(0.2, 1.3, 12)
    found = compare(errors_of(mae), errors_of(mae - 0.1 - mae / 50))

    assert found.figure.name == "mae"
    assert (found.overall.name, found.overall.better) == ("height", 12)
    assert found.overall.p == pytest.approx(2 / 2**12)
    assert sentence(found.overall, found.figure).endswith("p < 0.001, in 12 of 12 cases")


def test_a_regression_s_other_truth_is_seen_by_its_variance():
    mae = np.linspace(0.2, 1.3, 12)
    with pytest.raises(SettingsError, match=r"no case to compare: A and B scored 12 cases"):
        compare(errors_of(mae), errors_of(mae, spread=4.1))


def test_runs_that_cannot_be_compared_are_refused(tables):
    a = scores_of(tables[0])
    with pytest.raises(SettingsError, match=r"A is a segmentation run, B is a regression run"):
        compare(a, errors_of(np.ones(3)))
    with pytest.raises(SettingsError, match=r"no case to compare: only A .*; only B .*case_20"):
        renamed = scores_of(tables[0])
        for row in renamed["cases"]:
            row["case"] = f"case_{20 + int(row['case'][5:])}"
        compare(a, renamed)
    with pytest.raises(SettingsError, match=r"A scores class_0, .*they have no class in common"):
        compare(a, a | {"cases": [{**row, "class": "liver"} for row in a["cases"]]})
    with pytest.raises(SettingsError, match=r"--figure dise: there is no such figure; give dice,"):
        compare(a, a, "dise")
    with pytest.raises(SettingsError, match=r"--figure hd95: .* they hold dice\. See score"):
        compare(a, a, "hd95")
    b = json.loads(json.dumps(a))
    for scores, unit in ((a, "mm"), (b, "voxels")):
        scores["units"] = {"distance": unit}
        for row in scores["cases"]:
            row["hd95"] = 1.0
    with pytest.raises(SettingsError, match=r"HD95 of A goes by a distance of mm, .* of voxels"):
        compare(a, b, "hd95")
