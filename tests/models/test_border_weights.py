"""Border weights equal the formula of 2015 written out, voxel by voxel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import border_weights, instances_of


def by_the_formula(instances, w0, sigma, sampling=None):
    """The border term, from the distance of each voxel to every voxel of every object."""
    step = np.asarray(sampling or (1,) * instances.ndim)
    numbers = [n for n in np.unique(instances) if n]
    weights = np.zeros(instances.shape)
    if len(numbers) < 2:
        return weights
    for voxel in np.argwhere(instances == 0):
        distances = [
            np.sqrt((((np.argwhere(instances == n) - voxel) * step) ** 2).sum(1)).min()
            for n in numbers
        ]
        d1, d2 = sorted(distances)[:2]
        weights[tuple(voxel)] = w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return weights


def objects(shape, count, seed):
    """Boxes, some of them touching or in the way of each other, numbered at random."""
    random = np.random.default_rng(seed)
    instances = np.zeros(shape, np.int64)
    for number in random.choice(np.arange(1, 10**6), count, replace=False):
        corner = [random.integers(n) for n in shape]
        instances[tuple(slice(c, c + random.integers(1, 5)) for c in corner)] = number
    return instances


@pytest.mark.parametrize("sigma", [0.7, 2, 5])
@pytest.mark.parametrize("shape", [(40, 37), (9, 14, 12)], ids=["2d", "3d"])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_weights_are_those_of_the_formula(shape, count, sigma):
    instances = objects(shape, count, seed=count)
    ours = border_weights(instances, w0=10, sigma=sigma)
    expected = 1 + by_the_formula(instances, 10, sigma)
    # What is not looked for is below 1e-6 * w0; float32 rounds 11 to 5e-7.
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1.1e-5)


@given(st.integers(0, 10**6), st.integers(0, 12), st.floats(0.3, 3), st.floats(0.5, 4))
@settings(max_examples=25, deadline=None)
def test_weights_are_those_of_the_formula_for_any_objects(seed, count, sigma, step):
    instances = objects((17, 23), count, seed)
    ours = border_weights(instances, w0=1, sigma=sigma, sampling=(step, 1))
    expected = 1 + by_the_formula(instances, 1, sigma, (step, 1))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1.2e-6)  # 1e-6 and float32


def test_far_objects_are_looked_at_as_far_as_they_matter():
    """The nearest object is right here, the second just within reach, then just beyond."""
    instances = np.zeros((1, 80), int)
    instances[0, 0] = 1
    for second in (25, 26, 27, 40):
        instances[0, 1:] = 0
        instances[0, second] = 2
        found = border_weights(instances, w0=1e6, sigma=5)[0, 1] - 1
        true = 1e6 * np.exp(-((1 + second - 1) ** 2) / 50)
        assert abs(found - true) < 1


def test_objects_weigh_what_their_class_does():
    instances = np.array([[1, 0, 2, 0]])
    weights = border_weights(instances, w0=10, sigma=5, class_weights=(0.5, 3))
    near, far = 10 * np.exp(-4 / 50), 10 * np.exp(-16 / 50)
    np.testing.assert_allclose(weights, [[3, 0.5 + near, 3, 0.5 + far]], rtol=1e-6)


def test_class_weights_follow_the_labels_where_given():
    instances = np.array([[1, 0, 0, 2]])
    labels = np.array([[2, 0, 255, 1]], np.uint8)
    weights = border_weights(instances, w0=0, class_weights=(1, 5, 7), labels=labels)
    assert weights.tolist() == [[7, 1, 0, 5]]


def test_numbers_of_objects_do_not_matter():
    instances = objects((20, 20), 6, seed=3)
    renumbered = np.where(instances > 0, 10**9 - instances, 0)
    np.testing.assert_array_equal(border_weights(instances), border_weights(renumbered))


def test_one_object_has_no_gap():
    instances = np.zeros((5, 5), np.uint8)
    instances[2, 2] = 1
    assert (border_weights(instances) == 1).all()


def test_instances_are_connected_through_faces():
    flat = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]], bool)
    assert instances_of(flat).max() == 3
    solid = np.zeros((2, 2, 2), bool)
    solid[0, 0, 0] = solid[1, 1, 0] = True
    assert instances_of(solid).max() == 2
    solid[1, 0, 0] = True
    assert instances_of(solid).max() == 1


def test_sigma_must_be_positive():
    with pytest.raises(ValueError, match="sigma is 0: give the width of a gap that matters"):
        border_weights(np.zeros((2, 2), int), sigma=0)


def test_labels_must_lie_on_the_instances():
    with pytest.raises(ValueError, match=r"labels have shape \(3,\), instances \(2, 2\)"):
        border_weights(np.zeros((2, 2), int), class_weights=(1, 1), labels=np.zeros(3, int))
