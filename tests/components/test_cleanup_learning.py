from dataclasses import replace

import numpy as np
import pytest

from pipeline.components import ClassRule, Cleanup, LearningCase, cleaned, learn
from pipeline.components.learning import LEAST_GAIN, candidates
from pipeline.errors import GridError
from tests.components.masks import NO_LABEL, blobs, found, painted

NAMES = ["nothing", "organ", "tumour"]
LARGEST = ClassRule(largest_only=True)
FILL = ClassRule(fill_holes=True)


def case(mask, truth, voxel_size=1.0):
    """A validation case, its truth counted through the same engine."""
    mask, truth = np.asarray(mask, np.uint8), np.asarray(truth, np.uint8)
    true = found(truth, tuple(n // 4 + 1 for n in truth.shape))
    sizes = {k: true.size[true.label == k] * voxel_size for k in range(1, 3)}
    scored = truth[(mask != NO_LABEL) & (truth != NO_LABEL)]
    components = found(mask, tuple(n // 5 + 1 for n in mask.shape), truth=truth, classes=3)
    return LearningCase(components, voxel_size, np.bincount(scored, minlength=3), sizes)


def boxes(*places, shape=(30, 40)):
    """A mask of boxes (label, first row, first column, rows, columns); later ones on top."""
    mask = np.zeros(shape, np.uint8)
    for label, row, column, rows, columns in places:
        mask[row : row + rows, column : column + columns] = label
    return mask


ORGAN = (1, 3, 3, 12, 14)
SPECK = (1, 28, 36, 1, 1)
FAR = (1, 20, 25, 5, 6)


def learnt(*pairs):
    return learn([case(mask, truth) for mask, truth in pairs], NAMES, 0)


def rules_of(*pairs):
    return learnt(*pairs).cleanup.rules


def test_what_lies_apart_from_the_organ_is_learnt_to_be_wrong():
    pairs = [(boxes(ORGAN, FAR), boxes(ORGAN)), (boxes(ORGAN), boxes(ORGAN))]
    result = learnt(*pairs)
    assert result.cleanup == Cleanup(rules={1: LARGEST})
    dice = 2 * 168 / (168 + 198)
    assert (result.choices[0].before, result.choices[0].after) == ((dice + 1) / 2, 1)
    assert result.sentences("m²") == [
        "organ: only the largest component kept; Dice 0.9590 -> 1.0000 in 2 cases.",
        "tumour: left as it is; no validation case has it.",
    ]


def test_specks_are_removed_where_objects_are_several():
    truth = boxes(ORGAN, FAR)
    rules = rules_of((boxes(ORGAN, FAR, SPECK), truth))
    assert rules == {1: candidates(np.array([168.0, 30]))[3]}
    assert 1 < rules[1].smallest < 30


def test_holes_are_filled_where_truth_has_none():
    assert rules_of((boxes(ORGAN, (0, 6, 6, 2, 2)), boxes(ORGAN))) == {1: FILL}


def test_both_are_learnt_together():
    mask = boxes(ORGAN, (0, 6, 6, 2, 2), FAR)
    assert rules_of((mask, boxes(ORGAN))) == {1: ClassRule(largest_only=True, fill_holes=True)}


def test_nothing_is_learnt_of_perfect_masks():
    result = learnt((boxes(ORGAN, FAR), boxes(ORGAN, FAR)))
    assert not result.cleanup.active
    assert result.choices[0] == replace(result.choices[0], rule=ClassRule(), before=1, after=1)


def test_a_gain_within_noise_is_not_taken():
    shape, organ, one = (150, 200), (1, 3, 3, 120, 150), (1, 140, 190, 1, 1)
    truth = boxes(organ, shape=shape)
    assert rules_of((boxes(organ, one, shape=shape), truth)) == {}
    five = (1, 140, 190, 1, 5)
    assert rules_of((boxes(organ, five, shape=shape), truth)) == {1: LARGEST}


def test_an_empty_mask_of_an_absent_class_is_right():
    """Emptying it makes its Dice undefined: left out, the rule would gain nothing here."""
    seen = boxes(ORGAN, (2, 5, 5, 3, 4))
    absent = (boxes(ORGAN, (2, 9, 9, 1, 1)), boxes(ORGAN))
    result = learnt((seen, seen), absent)
    assert result.cleanup.rules == {2: ClassRule(smallest=12 * 0.1)}
    assert (result.choices[1].before, result.choices[1].after) == (0.5, 1)
    assert result.choices[1].cases == 2


def test_a_case_without_the_class_counts_in_no_mean():
    blank = boxes()
    pairs = [(boxes(ORGAN, FAR), boxes(ORGAN)), (blank, blank)]
    assert learnt(*pairs).choices[0] == replace(learnt(pairs[0]).choices[0], cases=1)


def test_sizes_are_world_units():
    mask, truth = boxes(ORGAN, FAR, SPECK), boxes(ORGAN, FAR)
    one = learn([case(mask, truth)], NAMES, 0).cleanup.rules[1].smallest
    small = learn([case(mask, truth, 0.25)], NAMES, 0).cleanup.rules[1].smallest
    assert small == pytest.approx(one / 4, rel=1e-12)


def test_nothing_is_learnt_without_background_or_cases():
    mask, truth = boxes(ORGAN, FAR), boxes(ORGAN)
    one = LearningCase(
        found(mask, (9, 9), background=None, truth=truth, classes=3), 1.0, np.array([9, 9, 0]), {}
    )
    assert not learn([one], NAMES, None).cleanup.active
    assert [c.label for c in learn([one], NAMES, None).choices] == [0, 1, 2]
    assert not learn([], NAMES, 0).cleanup.active
    assert learn([], NAMES, 0).choices[0].before is None


def brute_dice(mask, truth, label):
    scored = (mask != NO_LABEL) & (truth != NO_LABEL)
    a, b = (mask == label) & scored, (truth == label) & scored
    total = a.sum() + b.sum()
    return 2 * (a & b).sum() / total if total else np.nan


@pytest.mark.parametrize("seed", range(4))
def test_the_rule_learnt_is_that_of_brute_force(seed):
    masks = [blobs((34, 31), 3, 10 * seed + i, smooth=1, nodata=0.1) for i in range(3)]
    truths = [blobs((34, 31), 3, 10 * seed + i, smooth=2, nodata=0.05) for i in range(3)]
    truths[0][truths[0] == 2] = 1
    cases = [case(mask, truth, 0.7) for mask, truth in zip(masks, truths, strict=True)]
    result = learn(cases, NAMES, 0)
    for choice in result.choices:
        held = [c.objects[choice.label] for c in cases]
        rules = candidates(np.concatenate(held))
        dice = []
        for rule in rules:
            row = []
            for one, mask, truth in zip(cases, masks, truths, strict=True):
                table = cleaned(one.components, Cleanup(rules={choice.label: rule}), 0.7)
                row.append(brute_dice(painted(mask, one.components, table), truth, choice.label))
            dice.append(row)
        table = np.array(dice)
        means = np.nan_to_num(table[:, ~np.isnan(table).all(axis=0)], nan=1).mean(axis=1)
        best = int(means.argmax())
        best = best if means[best] > means[0] + LEAST_GAIN else 0
        assert choice.rule == rules[best]
        assert choice.before == pytest.approx(means[0], abs=1e-12)
        assert choice.after == pytest.approx(means[best], abs=1e-12)
    assert any(choice.rule.active for choice in result.choices)


def test_candidates_go_from_simple_to_less_simple():
    sizes = np.arange(101.0) + 100
    tried = candidates(sizes)
    assert [rule.smallest for rule in tried] == [0, 0, 0, 10.5, 26.25, 52.5, 0, 10.5, 26.25, 52.5]
    assert [rule.fill_holes for rule in tried] == [False, True] + 4 * [False] + 4 * [True]
    assert candidates(np.empty(0)) == [
        ClassRule(),
        FILL,
        LARGEST,
        ClassRule(largest_only=True, fill_holes=True),
    ]


def test_a_rule_that_harms_another_class_is_not_taken(monkeypatch):
    """No rule can as long as voxels move between its class and the background alone."""

    def spilling(components, cleanup, voxel_size):
        after = cleaned(components, cleanup, voxel_size)
        removed = (components.label == 1) & (after == 0)
        return np.where(removed, 2, after)

    monkeypatch.setattr("pipeline.components.learning.cleaned", spilling)
    tumour = (2, 8, 30, 4, 4)
    result = learnt((boxes(ORGAN, FAR, tumour), boxes(ORGAN, tumour)))
    assert not result.cleanup.active
    assert result.choices[0].before == result.choices[0].after < 1


def test_cases_without_truth_or_of_other_classes_are_refused():
    mask = boxes(ORGAN, (2, 9, 9, 1, 1))
    with pytest.raises(GridError, match="no true classes, the truth has 3"):
        LearningCase(found(mask), 1.0, np.zeros(3, np.int64), {})
    with pytest.raises(GridError, match="counts of 3 true classes, the truth has 2"):
        LearningCase(found(mask, truth=mask, classes=3), 1.0, np.zeros(2, np.int64), {})
    with pytest.raises(GridError, match="holds label 2, the truth has 2 classes"):
        LearningCase(found(mask, truth=mask, classes=2), 1.0, np.zeros(2, np.int64), {})
    with pytest.raises(GridError, match="a case has 3 true classes, not 2"):
        learn([case(mask, mask)], NAMES[:2], 0)
