"""Images are interpolated as torch and scipy do it, and keep what an image must keep."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch.nn.functional import interpolate as torch_interpolate

from pipeline.space import Resampling, Volume, Window, resample_image, resample_labels
from pipeline.space.interpolation import axis_taps, interpolate
from tests.space.resampled import NO_LABEL, image, noise, scan, to_shape

SHAPES = [((9, 12, 7), (14, 8, 7)), ((16, 16, 16), (5, 23, 9)), ((1, 6, 2), (3, 1, 5))]


@pytest.mark.parametrize(("shape", "target"), SHAPES)
def test_linear_interpolation_is_torchs(shape, target):
    array = noise(2, *shape)
    oracle = torch_interpolate(
        torch.from_numpy(array).double()[None], target, mode="trilinear", align_corners=False
    )[0].numpy()
    result, _ = image(array, to_shape(shape, target, (1, 1, 1)))
    assert result.dtype == np.float32
    # Float32 sums of eight terms.
    np.testing.assert_allclose(result, oracle, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "target"), SHAPES)
def test_the_nearest_voxel_is_torchs_nearest_exact(shape, target):
    array = noise(1, *shape)
    # Centres on a voxel's border may go either way: torch's are rounded floats.
    oracle = torch_interpolate(torch.from_numpy(array)[None], target, mode="nearest-exact")
    result, _ = image(array, to_shape(shape, target, (0, 0, 0)))
    np.testing.assert_array_equal(result, oracle[0].numpy())


@pytest.mark.parametrize(("size", "target"), [(9, 14), (20, 7), (8, 8), (1, 4), (50, 49)])
def test_cubic_interpolation_with_torchs_slope_is_torchs(size, target):
    array = noise(3, size, 2)
    oracle = torch_interpolate(
        torch.from_numpy(array).double()[None], (target, 2), mode="bicubic", align_corners=False
    )[0].numpy()
    taps = axis_taps(size, target, 0, target, order=3, slope=-0.75)
    np.testing.assert_allclose(interpolate(array, 1, taps), oracle, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("order", "mode"), [(1, "bilinear"), (3, "bicubic")])
@pytest.mark.parametrize(("size", "target"), [(60, 23), (61, 60), (40, 71)])
def test_the_low_pass_is_torchs_antialias(order, mode, size, target):
    array = noise(1, size, size)
    oracle = torch_interpolate(
        torch.from_numpy(array).double()[None],
        (target, target),
        mode=mode,
        align_corners=False,
        antialias=True,
    )[0].numpy()
    made = to_shape((size, size), (target, target), (order, order), antialias=True)
    result, _ = image(array, made)
    # At the ends torch leaves out what we repeat: the kernel must lie inside.
    inside = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(result[inside], oracle[inside], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", [(33, 40, 45), (20, 17, 25)])
def test_a_smooth_image_is_resampled_like_with_scipys_cubic_spline(target):
    shape = (24, 30, 34)
    array = scipy.ndimage.gaussian_filter(noise(*shape), 2)[None]
    ratio = np.divide(target, shape)
    oracle = scipy.ndimage.zoom(array[0], ratio, order=3, mode="nearest", grid_mode=True)
    result, _ = image(array, to_shape(shape, target))
    assert np.corrcoef(result.ravel(), oracle.ravel())[0, 1] > 0.999


def test_cubic_convolution_is_exact_for_parabolas():
    made = to_shape((20, 4), (33, 4))
    parabola = np.square(np.arange(20.0) - 7)[:, None].repeat(4, axis=1)
    result, _ = image(parabola[None], made)
    centres = (np.arange(33) + 0.5) * 20 / 33 - 0.5
    np.testing.assert_allclose(result[0, 4:-4, 0], np.square(centres - 7)[4:-4], rtol=1e-5)


def test_waves_are_followed_better_than_linearly_and_not_as_well_as_by_splines():
    random = np.random.default_rng(0)
    waves = random.uniform(0, 0.2, 200), random.uniform(0, 2 * np.pi, 200), random.normal(size=200)
    frequency, phase, height = (v[:, None] for v in waves)

    def signal(x):
        return (height * np.cos(2 * np.pi * frequency * x + phase)).sum(axis=0)

    array, truth = signal(np.arange(200)), signal((np.arange(300) + 0.5) * 200 / 300 - 0.5)
    spline = scipy.ndimage.zoom(array, 1.5, order=3, mode="nearest", grid_mode=True)
    cubic, linear = (
        interpolate(array[None].astype(np.float32), 1, axis_taps(200, 300, 0, 300, order))[0]
        for order in (3, 1)
    )
    # Away from the ends, past which nothing is known.
    error = [np.std((v - truth)[20:-20]) / np.std(truth) for v in (spline, cubic, linear)]
    assert error[0] < 0.003 and 0.01 < error[1] < 0.02 and 0.05 < error[2] < 0.1


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("target", [(31, 5, 12), (4, 40, 7)])
def test_a_constant_image_stays_constant(target, antialias):
    made = to_shape((12, 12, 12), target, (3, 1, 0), antialias)
    result, _ = image(np.full((1, 12, 12, 12), 7, np.int16), made)
    np.testing.assert_allclose(result, 7, rtol=1e-6)


def test_the_low_pass_brings_a_fine_scan_nearest_to_a_coarse_one():
    # A scanner's larger voxel is the mean over its box.
    fine = scipy.ndimage.gaussian_filter(noise(32, 32, 32), 0.7)
    coarse = fine.reshape(16, 2, 16, 2, 16, 2).mean(axis=(1, 3, 5))
    error = {
        antialias: np.std(
            image(fine[None], to_shape((32,) * 3, (16,) * 3, None, antialias))[0][0] - coarse
        )
        for antialias in (True, False)
    }
    assert error[True] < error[False]


def test_equal_grids_give_back_the_volume_itself():
    grid = scan((6, 7, 8), (1, 1, 1))
    made = Resampling.to_spacing(grid, (1, 1, 1))
    volume = Volume(noise(1, 6, 7, 8).astype(np.int16), grid, noise(6, 7, 8) > 0)
    assert resample_image(volume, made, Window.whole(grid.shape)) is volume
    drawn = np.ones(grid.shape, np.uint8)
    assert resample_labels(drawn, made, Window.whole(grid.shape), NO_LABEL) is drawn


def test_an_untouched_axis_is_copied_to_the_last_bit():
    array = noise(1, 5, 6, 9)
    result, _ = image(array, to_shape((5, 6, 9), (5, 6, 18)))
    for z, y in np.ndindex(5, 6):
        row, _ = image(array[:, z : z + 1, y : y + 1], to_shape((1, 1, 9), (1, 1, 18)))
        np.testing.assert_array_equal(result[0, z, y], row[0, 0, 0])


def test_the_window_of_an_image_knows_its_place():
    made = Resampling.to_spacing(scan((9, 9, 9), (1.5, 1.5, 1.5)), (1, 1, 1))
    window = Window((2, 3, 4), (5, 4, 3))
    native = made.native_window(window)
    volume = Volume(noise(1, *native.shape), made.native.cropped(native))
    assert resample_image(volume, made, window).grid == made.planned.cropped(window)
