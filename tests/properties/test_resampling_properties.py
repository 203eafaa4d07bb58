"""Resampled in blocks is resampled whole, to the last bit, whatever the sizes and the cuts."""

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.native_logits import interpolate_logits
from pipeline.space import (
    Resampling,
    Volume,
    Window,
    crop,
    resample_image,
    resample_labels,
    resample_valid,
    voxel_grid,
)
from pipeline.space.resampling import resized

NO_LABEL = 9


@st.composite
def resamplings(draw, longest=14):
    ndim = draw(st.sampled_from([2, 3]))
    sizes = st.integers(1, longest)
    shape = tuple(draw(sizes) for _ in range(ndim))
    target = tuple(draw(sizes) for _ in range(ndim))
    orders = tuple(draw(st.sampled_from([0, 1, 3])) for _ in range(ndim))
    grid = voxel_grid(shape)
    return Resampling(grid, resized(grid, target), orders, draw(st.booleans()))


@st.composite
def partitions(draw, shape):
    """Windows that cut an array along random planes."""
    cuts = []
    for n in shape:
        inner = draw(st.lists(st.integers(1, n), max_size=3, unique=True))
        cuts.append(sorted({0, n, *inner}))
    axes = [list(pairwise(edges)) for edges in cuts]
    return [Window.between(*zip(*box, strict=True)) for box in product(*axes)]


def noise(shape, channels=2):
    random = np.random.default_rng(sum(shape))
    array = random.normal(size=(channels, *shape)).astype(np.float32)
    return Volume(array, voxel_grid(shape), random.random(shape) < 0.8)


def noise_labels(shape):
    random = np.random.default_rng(sum(shape))
    return random.choice(np.array([0, 1, 2, NO_LABEL], np.uint8), shape)


def resampled(volume, resampling):
    whole = Window.whole(resampling.planned.shape)
    return resample_image(crop(volume, resampling.native_window(whole)), resampling, whole)


def resampled_labels(labels, resampling):
    whole = Window.whole(resampling.planned.shape)
    read = labels[resampling.native_window(whole).slices]
    return resample_labels(read, resampling, whole, NO_LABEL)


@given(resamplings(), st.data(), st.booleans())
def test_an_image_in_blocks_is_the_whole_image(resampling, data, masked):
    volume = noise(resampling.native.shape)
    if not masked:
        volume = Volume(volume.array, volume.grid)
    shape = resampling.planned.shape
    whole = resampled(volume, resampling)
    for window in data.draw(partitions(shape)):
        native = resampling.native_window(window)
        block = resample_image(crop(volume, native), resampling, window)
        expected = crop(whole, window)
        np.testing.assert_array_equal(block.array, expected.array)
        assert block.grid.difference(expected.grid) is None
        np.testing.assert_array_equal(
            np.ones(window.shape, bool) if block.valid is None else block.valid,
            np.ones(window.shape, bool) if expected.valid is None else expected.valid,
        )
        if masked:
            known = resample_valid(volume.valid[native.slices], resampling, window)
            np.testing.assert_array_equal(
                known, True if whole.valid is None else whole.valid[window.slices]
            )


@given(resamplings(), st.data())
def test_labels_in_blocks_are_the_whole_labels(resampling, data):
    labels, shape = noise_labels(resampling.native.shape), resampling.planned.shape
    whole = resampled_labels(labels, resampling)
    for window in data.draw(partitions(shape)):
        native = resampling.native_window(window)
        block = resample_labels(labels[native.slices], resampling, window, NO_LABEL)
        np.testing.assert_array_equal(block, whole[window.slices])


@given(resamplings(), st.data())
def test_logits_in_blocks_are_the_whole_logits(resampling, data):
    shape = resampling.native.shape
    logits = torch.from_numpy(noise(resampling.planned.shape, 3).array)
    planned = resampling.planned_window(Window.whole(shape))
    read = logits[(slice(None), *planned.slices)]
    whole = interpolate_logits(read, resampling, Window.whole(shape))
    for window in data.draw(partitions(shape)):
        planned = resampling.planned_window(window)
        read = logits[(slice(None), *planned.slices)]
        block = interpolate_logits(read, resampling, window)
        np.testing.assert_array_equal(block, whole[(slice(None), *window.slices)])


@given(resamplings(), st.data())
def test_a_block_is_read_inside_the_array_and_no_further_than_its_kernel(resampling, data):
    native, planned = resampling.native.shape, resampling.planned.shape
    for window in data.draw(partitions(planned)):
        # Two voxels to each side, widened by the low-pass.
        assert_read(resampling.native_window(window), window, native, planned, reach=2)
    for window in data.draw(partitions(native)):
        assert_read(resampling.planned_window(window), window, planned, native, reach=1)


def assert_read(read, wanted, source, target, reach):
    assert Window.whole(source).contains(read)
    for size, kept, n, m in zip(read.shape, wanted.shape, source, target, strict=True):
        assert 1 <= size <= kept * n / m + 2 * (reach * max(1, n / m) + 1)


@given(resamplings(longest=6))
def test_labels_are_the_largest_exact_shares(resampling):
    """Against one-hot interpolation in fractions, voxel by voxel."""
    shape, target = resampling.native.shape, resampling.planned.shape
    labels = noise_labels(shape)
    result = resampled_labels(labels, resampling)
    axes = zip(shape, target, resampling.orders, strict=True)
    exact = [[_shares(n, m, j, order) for j in range(m)] for n, m, order in axes]
    for voxel in np.ndindex(target):
        nearest = tuple(
            (2 * j + 1) * n // (2 * m) for j, n, m in zip(voxel, shape, target, strict=True)
        )
        if labels[nearest] == NO_LABEL:
            assert result[voxel] == NO_LABEL
            continue
        total = {}
        for corner in product(*[exact[a][j].items() for a, j in enumerate(voxel)]):
            label = int(labels[tuple(i for i, _ in corner)])
            total[label] = total.get(label, 0) + np.prod([w for _, w in corner])
        total.pop(NO_LABEL, None)
        assert result[voxel] == min(total, key=lambda k: (-total[k], k))


def _shares(n, m, j, order):
    """Source voxels of target voxel j with their exact linear weights."""
    if order == 0 or n == m:
        return {(2 * j + 1) * n // (2 * m): Fraction(1)}
    centre = Fraction((2 * j + 1) * n, 2 * m) - Fraction(1, 2)
    below = centre.__floor__()
    shares = {}
    for i, w in ((below, 1 - (centre - below)), (below + 1, centre - below)):
        place = min(max(i, 0), n - 1)
        shares[place] = shares.get(place, 0) + w
    return shares


@given(resamplings())
def test_voxels_stay_between_the_smallest_and_the_largest_where_kernels_are_linear(resampling):
    volume = noise(resampling.native.shape)
    linear = resampling.linear
    result = resampled(volume, linear)
    if not volume.valid.any() or (result.valid is not None and not result.valid.any()):
        return
    known = result.array if result.valid is None else result.array[:, result.valid]
    within = volume.array[:, volume.valid]
    slack = 1e-6  # float32 weights sum to 1 within rounding
    assert known.min() >= within.min() - slack and known.max() <= within.max() + slack
