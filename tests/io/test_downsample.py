"""Coarser voxels are what a slow loop over blocks makes them."""

from itertools import product

import numpy as np
import pytest

from pipeline.errors import StoreError
from pipeline.io.downsample import downsample

FACTORS = [(2, 2), (1, 2), (2, 1), (1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 2)]


def blocks(values, factors):
    """Give every block's voxels in order, (voxels of a block, ..., *S / factors)."""
    steps = product(*[range(f) for f in factors])
    return np.stack(
        [
            values[(..., *[slice(a, None, f) for a, f in zip(s, factors, strict=True)])]
            for s in steps
        ]
    )


def slow_mean(values, factors, valid=None):
    voxels = blocks(values, factors).astype(np.float64)
    told = np.isfinite(voxels)
    if valid is not None:
        inside = blocks(np.broadcast_to(valid, values.shape), factors)
        told &= inside | ~inside.any(axis=0)
    count = told.sum(axis=0)
    total = np.where(told, voxels, 0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return (mean if values.dtype.kind == "f" else np.rint(mean)).astype(values.dtype)


def slow_mode(values, factors):
    voxels = blocks(values, factors)
    votes = np.stack([(voxels == voxel).sum(axis=0) for voxel in voxels])
    return np.take_along_axis(voxels, votes.argmax(axis=0)[None], axis=0)[0]


def noise(dtype, shape, seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 1, shape).astype(dtype)
    limits = np.iinfo(dtype)
    wide = random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    # Small numbers of both signs, where halves are met.
    low = 0 if limits.min == 0 else -3
    return np.where(random.random(shape) < 0.5, wide, random.integers(low, 4, shape)).astype(dtype)


INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("dtype", [*INTEGERS, "float32"])
def test_a_mean_is_that_of_the_slow_loop(dtype, factors):
    values = noise(dtype, (2, *[8 * f for f in factors]))
    np.testing.assert_array_equal(downsample(values, factors, "mean"), slow_mean(values, factors))


def test_halves_are_rounded_to_even():
    values = np.array([[0, 1, 1, 2, -1, 0, -2, -1, 2, 3]], np.int16)
    np.testing.assert_array_equal(downsample(values, (1, 2), "mean"), [[0, 2, 0, -2, 2]])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32"])
def test_sums_of_the_largest_values_do_not_overflow(dtype):
    for extreme in (np.iinfo(dtype).max, np.iinfo(dtype).min):
        values = np.full((4, 4, 4), extreme, dtype)
        assert (downsample(values, (2, 2, 2), "mean") == extreme).all()


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_voxels_without_data_are_left_out_of_a_mean(dtype, factors):
    values = noise(dtype, (2, *[8 * f for f in factors]))
    valid = np.random.default_rng(1).random(values.shape[1:]) < 0.4
    found = downsample(values, factors, "mean", valid)
    np.testing.assert_array_equal(found, slow_mean(values, factors, valid))


def test_a_block_without_any_data_keeps_the_mean_of_its_voxels():
    values = np.array([[2, 4, 6, 8, 1, 9]], np.uint8)
    valid = np.array([[False, False, False, True, True, True]])
    np.testing.assert_array_equal(downsample(values, (1, 2), "mean", valid), [[3, 8, 5]])


def test_missing_and_infinite_values_are_left_out_of_a_mean():
    values = noise("float32", (2, 16, 24))
    random = np.random.default_rng(1)
    for odd in (np.nan, np.inf, -np.inf):
        values[random.random(values.shape) < 0.2] = odd
    values[:, :4, :4] = np.nan
    found = downsample(values, (2, 2), "mean")
    # Sums of float64 in another order differ before they are rounded to float32.
    np.testing.assert_allclose(found, slow_mean(values, (2, 2)), rtol=2e-7)
    assert np.isnan(found[:, :2, :2]).all()


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("labels", [2, 3, 9])
def test_a_mode_is_that_of_the_slow_loop(labels, factors):
    random = np.random.default_rng(0)
    values = random.integers(0, labels, (2, *[8 * f for f in factors])).astype(np.uint8)
    values[0] = 255
    values[:, :4] = 1
    np.testing.assert_array_equal(downsample(values, factors, "mode"), slow_mode(values, factors))


def test_of_equally_common_labels_the_one_met_first_is_chosen():
    values = np.array([[2, 1, 7, 255], [1, 2, 255, 3]], np.uint8)
    np.testing.assert_array_equal(downsample(values, (2, 2), "mode"), [[2, 255]])


def test_large_arrays_are_done_slab_by_slab_without_a_seam():
    values = noise("int16", (3, 6, 700, 802))
    factors = (2, 2, 2)
    np.testing.assert_array_equal(downsample(values, factors, "mean"), slow_mean(values, factors))
    labels = np.abs(values[0] % 3).astype(np.uint8)
    np.testing.assert_array_equal(downsample(labels, factors, "mode"), slow_mode(labels, factors))


def test_views_are_reduced_like_their_copies():
    pixels = np.moveaxis(noise("uint8", (64, 48, 3)), 2, 0)
    found = downsample(pixels, (2, 2), "mean")
    np.testing.assert_array_equal(found, downsample(pixels.copy(), (2, 2), "mean"))


@pytest.mark.parametrize(("shape", "factors"), [((9, 9), (3, 3)), ((7, 8), (2, 2))])
def test_other_blocks_than_halves_are_refused(shape, factors):
    with pytest.raises(StoreError, match="keeps or halves each axis, and the blocks fill it"):
        downsample(np.zeros(shape, np.uint8), factors, "mean")
