import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from pipeline.errors import GridError
from pipeline.score.objects import (
    THRESHOLDS,
    ObjectCounts,
    Overlaps,
    match,
    numbered,
    object_counts,
)
from pipeline.space import Window, aligned_windows
from tests.score.shapes import blobs, reader

EVERYWHERE = np.ones((3, 3))


def compared(mask, truth, step=None, labels=(1,), classes=2, **ids):
    windows = aligned_windows(mask.shape, step or mask.shape)
    return object_counts(reader(mask), reader(truth), mask.shape, windows, labels, classes, **ids)


def of_numbers(mask_ids, truth_ids):
    """Counts of objects whose numbers are known."""
    ids = {"mask_ids": reader(mask_ids), "truth_ids": reader(truth_ids)}
    return compared((mask_ids > 0).astype("u1"), (truth_ids > 0).astype("u1"), **ids)


def ious(mask_ids, truth_ids):
    """IoU of every true with every predicted object, on whole arrays."""
    return [
        [
            ((truth_ids == t) & (mask_ids == m)).sum() / ((truth_ids == t) | (mask_ids == m)).sum()
            for m in np.unique(mask_ids[mask_ids > 0])
        ]
        for t in np.unique(truth_ids[truth_ids > 0])
    ]


def squares(*corners, shape=(40, 40)):
    """Object numbers of squares given by first row, first column, and side."""
    numbers = np.zeros(shape, np.int32)
    for number, (y, x, side) in enumerate(corners, start=1):
        numbers[y : y + side, x : x + side] = number
    return numbers


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(30, 34), (10, 14, 12)]))
def test_figures_are_those_of_brute_force_however_the_volume_is_cut(seed, shape):
    random = np.random.default_rng(seed)
    truth = blobs(shape, seed, 1.5, 2)
    mask = np.where(random.random(shape) < 0.05, 1 - truth, truth).astype("u1")
    step = tuple(int(random.integers(3, n + 1)) for n in shape)
    found = compared(mask, truth, step)
    assert found == compared(mask, truth)
    everywhere = np.ones((3,) * len(shape))
    truth_ids, mask_ids = (ndimage.label(a, everywhere)[0] for a in (truth, mask))
    table = np.array(ious(mask_ids, truth_ids))
    assert (found.n_truth, found.n_predicted) == table.shape
    over = table[table > 0.5]
    assert found.pq == pytest.approx(
        over.sum() / (len(over) + (sum(table.shape) - 2 * len(over)) / 2)
    )
    ap = []
    for threshold, row in zip(THRESHOLDS, found.by_iou, strict=True):
        tp = (table > threshold / 20 + 1e-12).sum()
        fp, fn = table.shape[1] - tp, table.shape[0] - tp
        ap.append(tp / (tp + fp + fn))
        assert row["iou"] == pytest.approx(threshold / 20)
        assert row["ap"] == pytest.approx(ap[-1])
        assert row["precision"] == pytest.approx(tp / (tp + fp))
        assert row["recall"] == pytest.approx(tp / (tp + fn))
    assert found.ap == pytest.approx(np.mean(ap))


def test_panoptic_quality_is_segmentation_times_recognition_quality():
    truth = squares((0, 0, 10), (0, 20, 10), (20, 0, 10))
    mask = squares((0, 0, 10), (0, 22, 10), (30, 30, 4))
    found = of_numbers(mask, truth)
    assert (found.n_truth, found.n_predicted, found.matched[0]) == (3, 3, 2)
    assert found.sq == pytest.approx((1 + 80 / 120) / 2)
    assert found.rq == found.f1 == pytest.approx(2 / (2 + 0.5 + 0.5))
    assert found.pq == pytest.approx(found.sq * found.rq)
    # 80 / 120 is over 0.5, 0.55, 0.6 and 0.65; of ten thresholds, six see one match.
    assert found.ap == pytest.approx((4 * 2 / 4 + 6 * 1 / 5) / 10)


@pytest.mark.parametrize(("voxels", "matches"), [(20, 0), (21, 1)])
def test_an_iou_at_the_threshold_is_no_match(voxels, matches):
    truth, mask = np.zeros((2, 1, 60), np.int32)
    truth[0, :40], mask[0, :voxels] = 1, 1
    assert of_numbers(mask, truth).matched[0] == matches
    mask[0], truth[0] = 0, 0
    truth[0, :20], mask[0, :11] = 1, 1
    assert of_numbers(mask, truth).matched[:2] == (1, 0)


def test_objects_that_touch_are_told_apart_by_their_numbers_alone():
    truth = squares((0, 0, 10), (0, 10, 10))
    labels = (truth > 0).astype("u1")
    by_numbers = compared(labels, labels, mask_ids=reader(truth), truth_ids=reader(truth))
    assert (by_numbers.n_truth, by_numbers.pq) == (2, 1.0)
    assert compared(labels, labels).n_truth == 1
    merged = compared(labels, labels, truth_ids=reader(truth))
    assert (merged.n_truth, merged.n_predicted, merged.pq) == (2, 1, 0.0)


def test_numbers_count_for_the_classes_asked_for_alone():
    numbers = squares((0, 0, 10), (0, 20, 10), (20, 0, 10))
    labels = np.array([0, 1, 2, 2], np.uint8)[numbers]
    ids = {"mask_ids": reader(numbers), "truth_ids": reader(numbers), "classes": 3}
    assert [compared(labels, labels, labels=k, **ids).n_truth for k in ((1,), (2,), (1, 2))] == [
        1,
        2,
        3,
    ]


def test_what_is_not_scored_belongs_to_no_object():
    truth, mask = np.zeros((2, 20, 40), np.uint8)
    truth[5:15, 0:10] = mask[5:15, 0:14] = 1
    truth[:, 10:20] = 255
    assert compared(mask, truth).pq == 1.0
    # Predicted where nothing is scored, for more than half of it: not held against the mask.
    mask[0:4, 12:24] = 1
    assert compared(mask, truth) == ObjectCounts(1, 1, (1,) * 10, 1.0)
    mask[0:4, 24:32] = 1
    assert compared(mask, truth).n_predicted == 2
    # Where the image has no data nothing is predicted, and nothing is missed.
    mask[:, :] = 255
    assert compared(mask, truth).empty


def test_without_objects_no_figure_is_defined_and_without_true_ones_they_are_zero():
    nothing, something = squares(), squares((3, 3, 5))
    empty = of_numbers(nothing, nothing)
    assert empty.empty
    assert [empty.pq, empty.sq, empty.rq, empty.f1, empty.ap] == [None] * 5
    for found in (of_numbers(nothing, something), of_numbers(something, nothing)):
        assert (found.pq, found.sq, found.f1, found.ap) == (0.0, None, 0.0, 0.0)
        assert not found.empty


def test_cases_are_pooled_by_adding():
    truth = squares((0, 0, 10), (0, 20, 10))
    both = of_numbers(truth, truth) + of_numbers(squares(), truth)
    assert (both.n_truth, both.n_predicted, both.pq) == (4, 2, pytest.approx(2 / 3))


def test_components_of_a_class_are_numbered_across_windows():
    labels = blobs((30, 40), 2, 1.0)
    windows = aligned_windows(labels.shape, (7, 9))
    read = numbered(reader(labels), labels.shape, windows, [1, 3])
    whole = np.zeros(labels.shape, np.int64)
    for window in windows:
        whole[window.slices] = read(window)
    expected = ndimage.label(np.isin(labels, [1, 3]), EVERYWHERE)[0]
    assert np.array_equal(whole, expected)
    with pytest.raises(GridError, match="is none of the 25 blocks"):
        read(Window((1, 1), (4, 4)))


def test_overlaps_add_up_in_any_order():
    random = np.random.default_rng(0)
    truth, mask = random.integers(-1, 4, (2, 500))
    whole = Overlaps.of(truth, mask)
    parts = [Overlaps.of(truth[i::7], mask[i::7]) for i in random.permutation(7)]
    merged = sum(parts[1:], parts[0])
    assert np.array_equal(whole.pairs, merged.pairs)
    assert np.array_equal(whole.voxels, merged.voxels)
    assert whole.voxels.sum() == 500 and match(whole) == match(merged)


def test_real_nuclei_are_themselves_and_eroded_ones_score_less(real_data):
    folder = sorted((real_data("dsb2018") / "stage1_train").iterdir())[0]
    drawn = [np.asarray(Image.open(p)) > 0 for p in sorted((folder / "masks").glob("*.png"))]
    numbers = np.zeros(drawn[0].shape, np.int32)
    for number, nucleus in enumerate(drawn, start=1):
        numbers[nucleus] = number
    same = of_numbers(numbers, numbers)
    assert (same.n_truth, same.pq, same.ap) == (len(drawn), 1.0, 1.0)
    smaller = of_numbers(np.where(ndimage.binary_erosion(numbers > 0), numbers, 0), numbers)
    assert 0 < smaller.ap < smaller.f1 <= 1
    table = np.array(ious(np.where(ndimage.binary_erosion(numbers > 0), numbers, 0), numbers))
    assert smaller.ap == pytest.approx(
        np.mean([(n := (table > t / 20).sum()) / (sum(table.shape) - n) for t in THRESHOLDS])
    )
