"""No data never reaches data, and labels are the largest shares of their classes."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

from pipeline.space import Window, resample_valid
from tests.space.resampled import NO_LABEL, image, labels, noise, to_shape


@pytest.mark.parametrize("target", [(13, 17), (20, 23), (7, 5)])
def test_voxels_without_data_never_reach_those_with_data(target):
    random = np.random.default_rng(1)
    valid = scipy.ndimage.gaussian_filter(random.normal(size=(12, 14)), 1.2) > -0.1
    made = to_shape((12, 14), target, antialias=True)
    array = random.uniform(5, 6, (2, 12, 14)).astype(np.float32)
    results = []
    for poison in (0.0, np.nan, 1e30):
        poisoned = np.where(valid, array, np.float32(poison))
        result, known = image(poisoned, made, valid)
        results.append(result)
        np.testing.assert_array_equal(
            known, resample_valid(valid, made, Window.whole(made.planned.shape))
        )
    assert 0 < known.sum() < known.size
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    # The cubic kernel overshoots by an eighth of the range per axis.
    assert results[0][:, known].min() > 4.5 and results[0][:, known].max() < 6.5
    assert (results[0][:, ~known] == 0).all()


def test_far_from_missing_data_the_image_is_as_if_there_were_none():
    array, valid = noise(1, 20, 20), np.ones((20, 20), bool)
    valid[:4] = False
    made = to_shape((20, 20), (30, 30))
    result, known = image(array, made, valid)
    whole, _ = image(array, made)
    assert not known[:6].any() and known[6:].all()
    np.testing.assert_array_equal(result[:, 9:], whole[:, 9:])
    assert not np.array_equal(result[:, 6], whole[:, 6])


def test_next_to_missing_data_the_mean_of_the_valid_neighbours_is_taken():
    # Target voxel 1 lies at 0.25 of voxels 0 and 1, target voxel 2 at 0.75.
    made = to_shape((3, 1), (6, 1), (1, 1))
    array = np.array([[[10.0], [20.0], [999.0]]])
    result, known = image(array, made, np.array([[True], [True], [False]]))
    np.testing.assert_allclose(result[0, :, 0], [10, 12.5, 17.5, 20, 0, 0])
    np.testing.assert_array_equal(known[:, 0], [True] * 4 + [False] * 2)


def test_an_image_wholly_valid_has_no_validity_mask():
    made = to_shape((6, 6), (9, 9))
    assert image(noise(1, 6, 6), made, np.ones((6, 6), bool))[1] is None
    _, known = image(noise(1, 6, 6), made, np.zeros((6, 6), bool))
    assert known is not None and not known.any()


def test_labels_follow_the_linear_shares_of_their_classes():
    made = to_shape((2, 2), (4, 4))
    drawn = np.array([[0, 1], [2, 2]], np.uint8)
    # At (1, 1) of the target the shares of 0, 1, 2 are 9, 3 and 4 sixteenths; at (1, 2) they are
    # 3, 9 and 4; at (2, 1) and (2, 2) class 2 has 12.
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]]
    np.testing.assert_array_equal(labels(drawn, made), expected)


def test_a_class_in_two_corners_beats_the_nearest_voxel():
    made = to_shape((3, 3), (5, 5))
    drawn = np.array([[7, 3, 3], [3, 3, 3], [3, 3, 3]], np.uint8)
    # Target (1, 1) lies at 0.4: 7 has a share of 0.36.
    assert labels(drawn, made)[1, 1] == 3
    assert labels(drawn, to_shape((3, 3), (9, 9)))[1, 1] == 7


def test_equal_shares_go_to_the_lower_label():
    made = to_shape((2, 1), (1, 1))
    assert labels(np.array([[5], [4]], np.uint8), made) == 4
    assert labels(np.array([[4], [5]], np.uint8), made) == 4


def test_no_label_stands_where_the_nearest_voxel_has_none_and_nowhere_else():
    made = to_shape((3, 1), (9, 1))
    drawn = np.array([[NO_LABEL], [2], [NO_LABEL]], np.uint8)
    expected = [NO_LABEL] * 3 + [2] * 3 + [NO_LABEL] * 3
    np.testing.assert_array_equal(labels(drawn, made)[:, 0], expected)


def test_the_slice_axis_of_labels_takes_the_nearest_slice():
    made = to_shape((2, 4, 4), (5, 4, 4), (0, 3, 3))
    drawn = np.stack([np.zeros((4, 4), np.uint16), np.ones((4, 4), np.uint16)])
    result = labels(drawn, made)
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result[:, 0, 0], [0, 0, 1, 1, 1])


def test_numbers_of_a_regression_are_resampled_without_overshoot():
    made = to_shape((12, 12, 12), (5, 20, 18), (0, 3, 3), antialias=True)
    assert made.linear == replace(made, orders=(0, 1, 1), antialias=False)
    array = (noise(1, 12, 12, 12) > 0).astype(np.float32)
    result, _ = image(array, made.linear)
    assert result.min() >= 0 and result.max() <= 1 + 1e-6
    assert image(array, made)[0].max() > 1.01
