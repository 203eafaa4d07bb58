import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage.measure import euler_number, label
from skimage.metrics import adapted_rand_error

from pipeline.score.membranes import (
    MembraneCounts,
    membrane_counts,
    simple_codes,
    slice_counts,
    thinned,
    warped,
)
from tests.score.shapes import blobs, reader

CELLS = (1,)


def cells(seed=0, shape=(48, 60), kept=0.55):
    """Smooth blobs, with some pixels of noise."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=shape), 1.5)
    return noise > np.quantile(noise, 1 - kept)


def counted(mask, truth, scored=None):
    return slice_counts(mask, truth, np.ones_like(truth) if scored is None else scored)


def topology(image):
    """Cells, and what is membrane, as skimage counts them; what lies beyond is membrane."""
    padded = np.pad(image, 1)
    return label(padded, connectivity=1).max(), label(~padded, connectivity=2).max()


def with_single_pixels(numbers):
    """Each pixel of membrane as a cell of its own."""
    told, membrane = numbers.copy(), numbers == 0
    told[membrane] = numbers.max() + 1 + np.arange(membrane.sum())
    return told


@pytest.mark.parametrize("seed", range(4))
def test_the_rand_error_is_skimages_of_the_thinned_mask(seed):
    truth, mask = cells(seed), cells(seed + 10) | cells(seed)
    found = counted(mask, truth)
    numbers = label(truth, connectivity=1)
    expected = adapted_rand_error(numbers, with_single_pixels(thinned(mask)))[0]
    # skimage leaves out the pairs of a pixel with itself, one for each.
    n = truth.sum()
    alike = 2 * (found.shared - n) / (found.truth + found.mask - 2 * n)
    assert 1 - alike == pytest.approx(expected, abs=1e-12)
    assert found.rand == pytest.approx(expected, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_warping_changes_no_topology_and_goes_as_far_as_it_may(one, other):
    truth, mask = cells(one, (20, 24)), cells(other, (20, 24))
    now = warped(truth, mask, np.ones_like(truth))
    assert topology(now) == topology(truth)
    assert euler_number(now, connectivity=1) == euler_number(truth, connectivity=1)
    assert not ((now != truth) & (truth == mask)).any()
    assert not any(simple_here(now, place) for place in np.argwhere(now != mask))


def simple_here(image, place):
    """Whether a flip changes nothing around a pixel: there cells and membrane are one each."""
    y, x = place
    patch = np.pad(image, 1)[y : y + 3, x : x + 3].copy()
    patch[1, 1] = False
    numbers = label(patch, connectivity=1)
    touching = {numbers[0, 1], numbers[1, 0], numbers[1, 2], numbers[2, 1]} - {0}
    patch[1, 1] = True
    return len(touching) == 1 and label(~patch, connectivity=2).max() == 1


def test_simple_pixels_are_those_whose_flip_keeps_cells_and_membrane_of_their_neighbourhood():
    bits = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    for code in range(256):
        patch = np.zeros((3, 3), bool)
        for bit, (dy, dx) in enumerate(bits):
            patch[1 + dy, 1 + dx] = code >> bit & 1
        image = np.zeros((5, 5), bool)
        image[1:4, 1:4] = patch
        assert simple_codes()[code] == simple_here(image, (2, 2))
    assert simple_codes().sum() == 116


def test_a_mask_that_is_the_truth_has_no_error_and_thick_membranes_cost_nothing():
    truth = np.zeros((40, 40), bool)
    truth[2:19, 2:38] = truth[21:38, 2:38] = True
    same = counted(truth, truth)
    assert (same.rand, same.warping, same.pixels) == (0.0, 0.0, 1600)
    thick = counted(ndimage.binary_erosion(truth, iterations=3), truth)
    assert (thick.rand, thick.warping) == (0.0, 0.0)


def test_a_gap_in_a_membrane_joins_two_cells():
    truth = np.ones((20, 41), bool)
    truth[:, 20] = False
    mask = truth.copy()
    mask[9, 20] = True
    found = counted(mask, truth)
    assert (found.changed, found.warping) == (1, 1 / 820)
    n = 400
    assert found.rand == pytest.approx(1 - 2 * 2 * n**2 / (2 * n**2 + 4 * n**2))


def test_a_line_across_a_cell_splits_it():
    truth = np.ones((20, 41), bool)
    mask = truth.copy()
    mask[:, 20] = False
    found = counted(mask, truth)
    assert found.changed == 1
    shared = 2 * 400**2 + 20
    assert found.rand == pytest.approx(1 - 2 * shared / (820**2 + shared))


def test_a_cell_that_is_lost_or_made_counts_one_pixel_for_warping():
    truth = np.zeros((20, 20), bool)
    truth[4:9, 4:9] = True
    nothing = np.zeros_like(truth)
    assert counted(nothing, truth).changed == 1
    assert counted(truth, nothing).changed == truth.sum()
    assert counted(truth, nothing).rand is None


def test_thinned_borders_are_one_pixel_thin_and_part_all_cells():
    mask = ndimage.binary_erosion(cells(5), iterations=1)
    numbers, before = thinned(mask), label(mask, connectivity=1)
    assert numbers.max() == before.max()
    for axis in (0, 1):
        pair = np.moveaxis(numbers, axis, 0)
        assert not ((pair[1:] != pair[:-1]) & (pair[1:] > 0) & (pair[:-1] > 0)).any()
    assert (numbers[mask] > 0).mean() > 0.97
    thick = ndimage.binary_erosion(numbers == 0, np.ones((3, 3)))
    assert not thick.any()


def test_pixels_that_are_not_scored_make_no_error():
    truth = np.zeros((40, 40), np.uint8)
    truth[2:19, 2:38] = truth[21:38, 2:38] = 1
    mask = truth.copy()
    mask[19:21, 10:14] = 1
    assert membrane_counts(reader(mask), reader(truth), truth.shape, CELLS, 2).changed > 0
    truth[18:22, 8:16] = 255
    found = membrane_counts(reader(mask), reader(truth), truth.shape, CELLS, 2)
    assert (found.rand, found.warping, found.pixels) == (0.0, 0.0, 1600 - 32)


def test_a_stack_is_the_sum_of_its_slices_and_is_read_one_at_a_time():
    truth, mask, read = blobs((3, 30, 34), 0, 1.0, 2), blobs((3, 30, 34), 1, 1.0, 2), []
    whole = membrane_counts(reader(mask, read), reader(truth, read), truth.shape, CELLS, 2)
    slices = [counted(m == 1, t == 1) for m, t in zip(mask, truth, strict=True)]
    assert whole == sum(slices, MembraneCounts())
    assert {window.shape for window in read} == {(1, 30, 34)}


def test_a_mask_without_cells_and_a_truth_without_pixels_are_told():
    truth = np.ones((6, 7), bool)
    found = counted(~truth, truth)
    assert found.rand == pytest.approx(1 - 2 * 42 / (42**2 + 42))
    nothing = counted(truth, truth, ~truth)
    assert (nothing.rand, nothing.warping) == (None, None)


def test_real_membranes_drawn_a_pixel_thicker_cost_a_hundredth_of_their_pixels(real_data):
    path = sorted((real_data("isbi2012") / "labels").glob("*.png"))[0]
    truth = np.asarray(Image.open(path)) > 127
    found = counted(ndimage.binary_erosion(truth), truth)
    different = (ndimage.binary_erosion(truth) != truth).mean()
    assert found.warping < 0.01 * different
    assert found.rand < 0.01
