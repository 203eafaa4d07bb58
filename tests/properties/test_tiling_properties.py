"""Covers of arrays hold what they promise, whatever the sizes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.space import (
    Window,
    aligned_windows,
    gaussian_weights,
    halo_tiles,
    tile_windows,
)


@st.composite
def covers(draw):
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 12)) for _ in range(ndim))
    tile = tuple(draw(st.integers(1, n)) for n in shape)
    overlap = tuple(draw(st.integers(0, n - 1)) for n in tile)
    return shape, tile, overlap


@st.composite
def halo_cases(draw):
    ndim = draw(st.integers(1, 3))
    sizes = st.integers(1, 20)
    shape = tuple(draw(sizes) for _ in range(ndim))
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    tile = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    halo = tuple(draw(st.integers(0, 7)) for _ in range(ndim))
    stride = tuple(draw(st.sampled_from([1, 2, 4, 8])) for _ in range(ndim))
    return Window.between(start, stop), shape, tile, halo, stride


def hits(windows, shape):
    counts = np.zeros(shape, int)
    for window in windows:
        counts[window.slices] += 1
    return counts


@given(covers())
def test_tile_windows_have_one_size_lie_inside_and_meet_every_voxel(cover):
    shape, tile, overlap = cover
    windows = tile_windows(shape, tile, overlap)
    assert all(w.shape == tile and Window.whole(shape).contains(w) for w in windows)
    assert hits(windows, shape).min() >= 1
    assert len(set(windows)) == len(windows)


@given(covers())
def test_neighbouring_tiles_share_at_least_the_overlap(cover):
    shape, tile, overlap = cover
    for axis in range(len(shape)):
        starts = sorted({w.start[axis] for w in tile_windows(shape, tile, overlap)})
        steps = np.diff(starts)
        assert (steps <= tile[axis] - overlap[axis]).all()
        assert (steps[:-1] == tile[axis] - overlap[axis]).all()


@given(covers())
def test_aligned_windows_meet_every_voxel_once_and_start_on_multiples(cover):
    shape, step, _ = cover
    windows = aligned_windows(shape, step)
    assert (hits(windows, shape) == 1).all()
    assert all(a % s == 0 for w in windows for a, s in zip(w.start, step, strict=True))


@given(halo_cases())
def test_halo_tiles_write_each_voxel_of_the_window_once_and_no_other(case):
    write, shape, tile, halo, stride = case
    tiles = halo_tiles(write, shape, tile, halo, stride)
    counts = hits([t.write for t in tiles], shape)
    assert (counts[write.slices] == 1).all() and counts.sum() == write.size


@given(halo_cases())
def test_halo_tiles_read_from_stride_to_stride_and_never_before_the_array(case):
    write, shape, tile, halo, stride = case
    padded = tuple(-(-n // s) * s for n, s in zip(shape, stride, strict=True))
    for t in halo_tiles(write, shape, tile, halo, stride):
        assert all(a >= 0 and a % s == 0 for a, s in zip(t.read.start, stride, strict=True))
        assert all(b % s == 0 for b, s in zip(t.read.stop, stride, strict=True))
        assert Window.whole(padded).contains(t.read)


@given(halo_cases())
def test_halo_tiles_read_the_whole_halo_wherever_the_array_has_it(case):
    write, shape, tile, halo, stride = case
    for t in halo_tiles(write, shape, tile, halo, stride):
        assert t.read.contains(t.write.grown(halo).clipped(shape))


@given(halo_cases())
def test_stitching_what_halo_tiles_read_gives_the_array_back(case):
    write, shape, tile, halo, stride = case
    array = np.arange(np.prod(shape)).reshape(shape)
    padding = [(0, -(-n // s) * s - n) for n, s in zip(shape, stride, strict=True)]
    padded = np.pad(array, padding, constant_values=-1)
    stitched = np.full(shape, -2)
    for t in halo_tiles(write, shape, tile, halo, stride):
        read = padded[t.read.slices]
        stitched[t.write.slices] = read[t.write.relative_to(t.read).slices]
    np.testing.assert_array_equal(stitched[write.slices], array[write.slices])


@given(covers())
def test_blending_equal_tiles_with_gaussian_weights_gives_the_array_back(cover):
    shape, tile, overlap = cover
    array = np.random.default_rng(0).normal(size=shape)
    total, weight = np.zeros(shape), np.zeros(shape)
    weights = gaussian_weights(tile)
    for window in tile_windows(shape, tile, overlap):
        total[window.slices] += weights * array[window.slices]
        weight[window.slices] += weights
    # Rounding of float64 sums of a handful of terms.
    np.testing.assert_allclose(total / weight, array, rtol=1e-12)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple))
def test_gaussian_weights_are_positive_symmetric_and_highest_in_the_middle(shape):
    weights = gaussian_weights(shape)
    assert weights.min() >= np.float32(1e-3) and weights.max() == 1
    assert weights[tuple(n // 2 for n in shape)] == 1
    np.testing.assert_array_equal(weights, np.flip(weights))
