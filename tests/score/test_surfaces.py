import nibabel
import numpy as np
import pytest
import SimpleITK
import surface_distance as deepmind
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy import ndimage
from scipy.spatial.distance import cdist

from pipeline.score.surfaces import surface_distances
from pipeline.score.surfaces.counted import Counted
from pipeline.score.surfaces.nearest import distances
from tests.score.shapes import blobs, reader

# MONAI, of an argument that it gives to itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")

GROUPS = {"one": [1], "two": [2], "three": [3], "one and two": [1, 2]}
SPACINGS = [(1.0, 1.0, 1.0), (2.5, 0.7, 0.75), (0.5, 3.0, 1.0)]
FIGURES = ("hd95", "hd", "msd", "nsd")


def measured(mask, truth, spacing, tolerance=1.5, reach=1000.0, groups=GROUPS, classes=4, **more):
    return surface_distances(
        reader(mask), reader(truth), mask.shape, spacing, groups, classes, tolerance, reach, **more
    )


def moved(truth, by=(2, 1, 0)):
    """A mask that is the truth, moved, with a part of it lost."""
    mask = np.roll(truth, by, range(truth.ndim))
    mask[: len(mask) // 5] = 0
    return mask


def channels(labels, groups=GROUPS):
    return torch.from_numpy(np.stack([np.isin(labels, held) for held in groups.values()])[None])


def by_monai(mask, truth, spacing, tolerance):
    """MONAI's figures by group; it computes in float32, the place of a percentile too."""
    pair, many = (channels(mask), channels(truth)), {"include_background": True, "spacing": spacing}
    return {
        "hd95": compute_hausdorff_distance(*pair, percentile=95, **many)[0].tolist(),
        "hd": compute_hausdorff_distance(*pair, **many)[0].tolist(),
        "msd": compute_average_surface_distance(*pair, symmetric=True, **many)[0].tolist(),
        "nsd": compute_surface_dice(*pair, [tolerance] * len(GROUPS), **many)[0].tolist(),
    }


@pytest.mark.parametrize("spacing", SPACINGS)
def test_figures_are_monais_whatever_the_spacing(spacing):
    truth = blobs((20, 26, 23))
    found = measured(moved(truth), truth, spacing)
    expected = by_monai(moved(truth), truth, spacing, 1.5)
    for name in FIGURES:
        ours = [getattr(found[group], name) for group in GROUPS]
        assert ours == pytest.approx(expected[name], rel=1e-4), name
    assert all(figures.reach is None for figures in found.values())


def test_figures_of_pictures_are_monais():
    truth = blobs((90, 70), seed=3)
    found = measured(moved(truth, (3, 1)), truth, (10.0, 7.0), tolerance=12)
    expected = by_monai(moved(truth, (3, 1)), truth, (10.0, 7.0), 12)
    for name in FIGURES:
        ours = [getattr(found[group], name) for group in GROUPS]
        assert ours == pytest.approx(expected[name], rel=1e-4), name


def test_the_largest_distance_is_itks_hausdorff_distance_of_the_contours():
    truth, spacing = blobs((24, 30, 28), seed=1) > 0, (2.5, 0.7, 0.75)
    mask = ndimage.binary_erosion(moved(truth))
    found = measured(mask * 1, truth * 1, spacing, groups={"all": [1]}, classes=2)["all"]
    contours = []
    for labels in (mask, truth):
        # ITK's contour stops at the image's border, where ours goes on.
        image = SimpleITK.GetImageFromArray(np.pad(labels, 1).astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        contours.append(SimpleITK.BinaryContour(image, fullyConnected=False))
    itk = SimpleITK.HausdorffDistanceImageFilter()
    itk.Execute(*contours)
    assert found.hd == pytest.approx(itk.GetHausdorffDistance(), rel=1e-6)
    surfaces = [np.count_nonzero(SimpleITK.GetArrayViewFromImage(c)) for c in contours]
    assert surfaces == [found.n_mask, found.n_truth]


@pytest.mark.filterwarnings("ignore:.*scipy.ndimage.*namespace.*:DeprecationWarning")
def test_deepminds_surface_elements_tell_about_the_same():
    """It weighs surface elements between voxels by area, where we count voxels by their centres.

    So nested balls are a quarter of a voxel farther apart for us, which shows in the Dice where
    many distances are about the tolerance; here nearly all are below.
    """
    places = np.indices((40, 48, 44))
    radius = np.sqrt((((places.T - (20, 24, 22)) * (1.0, 0.8, 0.8)) ** 2).sum(-1)).T
    truth, mask = radius < 14, np.roll(radius < 12.5, 1, 2)
    groups = {"all": [1]}
    found = measured(mask * 1, truth * 1, (1.0, 0.8, 0.8), 2.5, groups=groups, classes=2)["all"]
    theirs = deepmind.compute_surface_distances(truth, mask, (1.0, 0.8, 0.8))
    assert found.hd95 == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 95), abs=0.3)
    dice = deepmind.compute_surface_dice_at_tolerance(theirs, 2.5)
    assert found.nsd == pytest.approx(dice, abs=0.02)
    mean = np.mean(deepmind.compute_average_surface_distance(theirs))
    assert found.msd == pytest.approx(mean, abs=0.3)


def test_a_hippocampus_moved_by_two_voxels_is_as_far_off_as_monai_says(real_data):
    path = sorted((real_data("hippocampus") / "labelsTr").glob("[!.]*.nii.gz"))[0]
    truth = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
    mask, groups = np.roll(truth, 2, 1), {"whole": [1, 2]}
    found = measured(mask, truth, (1, 1, 1), 1.0, groups=groups, classes=3)["whole"]
    pair = channels(mask, groups), channels(truth, groups)
    many = {"include_background": True}
    hd95 = float(compute_hausdorff_distance(*pair, percentile=95, **many))
    assert found.hd95 == pytest.approx(hd95) == 2.0
    assert found.nsd == pytest.approx(float(compute_surface_dice(*pair, [1.0], **many)), rel=1e-6)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([(23, 17), (9, 12, 11), (1, 30, 21), (40, 5)]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 60, 2**22]),
)
def test_how_the_volume_is_cut_makes_no_difference(shape, seed, held):
    random = np.random.default_rng(seed)
    truth, mask = (blobs(shape, random.integers(2**31), 1.2) for _ in range(2))
    truth[blobs(shape, seed, 2.0) == 3] = 255
    # Their squares are exact in binary: sums are equal to the last digit.
    spacing = random.choice([0.5, 0.75, 1.0, 2.5], len(shape)).tolist()
    block = tuple(int(random.integers(n // 2 + 1, n + 2)) for n in shape)
    whole = measured(mask, truth, spacing, block=shape)
    cut = measured(mask, truth, spacing, block=block, held=held)
    for name, figures in whole.items():
        if figures is None:
            assert cut[name] is None or (cut[name].n_mask, cut[name].n_truth) == (0, 0)
            continue
        for key in (*FIGURES, "n_mask", "n_truth", "n_beyond"):
            assert getattr(cut[name], key) == getattr(figures, key), (name, key)


def test_distances_beyond_the_reach_count_as_it_and_are_told():
    truth = np.zeros((20, 60), np.uint8)
    truth[5:15, 5:15] = 1
    mask = truth.copy()
    mask[9:11, 40:42] = 1
    exact = measured(mask, truth, (1, 1), groups={"it": [1]})["it"]
    near = measured(mask, truth, (1, 1), reach=8, groups={"it": [1]}, block=(8, 8), held=0)["it"]
    assert (exact.hd, exact.reach, exact.n_beyond) == (27.0, None, 0)
    assert (near.hd, near.reach, near.n_beyond) == (8.0, 8, 4)
    assert exact.msd == pytest.approx((2 * 26 + 2 * 27) / (36 + 36 + 4))
    assert near.msd == pytest.approx(4 * 8 / (36 + 36 + 4))
    assert near.nsd == exact.nsd


def test_the_reach_is_never_less_than_the_tolerance():
    truth = blobs((20, 60))
    exact = measured(moved(truth, (4, 4)), truth, (1, 1), tolerance=5)
    near = measured(moved(truth, (4, 4)), truth, (1, 1), tolerance=5, reach=1, held=0)
    assert [f.nsd for f in near.values()] == [f.nsd for f in exact.values()]
    assert {f.reach for f in near.values()} == {5}


def test_a_class_absent_from_both_has_no_figures_and_one_absent_from_either_no_distance():
    truth, mask = np.zeros((2, 6, 8, 8), np.uint8)
    truth[2:4, 2:4, 2:4] = 1
    mask[2:4, 2:4, 2:4] = 2
    found = measured(mask, truth, (1, 1, 1))
    assert found["three"] is None
    for name, sides in {"one": (0, 8), "two": (8, 0)}.items():
        figures = found[name]
        assert (figures.hd95, figures.hd, figures.msd, figures.nsd) == (None, None, None, 0.0)
        assert (figures.n_mask, figures.n_truth) == sides
    assert found["one and two"].hd == 0.0
    by_blocks = measured(mask, truth, (1, 1, 1), block=(4, 4, 4), held=0)
    assert by_blocks["three"] is None and by_blocks["one"].nsd == 0.0


def test_an_edge_against_no_data_is_no_surface():
    truth = np.zeros((20, 30), np.uint8)
    truth[5:15, :] = 1
    mask = truth.copy()
    whole = measured(mask, truth, (1, 1), groups={"it": [1]})["it"]
    truth[:, 20:] = 255
    mask[:, 20:] = 0
    clear = measured(mask, truth, (1, 1), groups={"it": [1]})["it"]
    assert (clear.hd, clear.nsd) == (0.0, 1.0)
    # Two long edges and the volume's left border; not the column beside what is not scored.
    assert clear.n_mask == clear.n_truth == 2 * 20 + 8
    assert whole.n_mask == 2 * 30 + 2 * 8


def test_what_the_truth_does_not_score_has_no_surface_in_the_mask():
    truth, mask = np.zeros((2, 20, 30), np.uint8)
    truth[2:8, 2:8] = mask[2:8, 2:8] = 1
    mask[12:18, 20:26] = 1
    truth[10:, 15:] = 255
    assert measured(mask, truth, (1, 1), groups={"it": [1]})["it"].hd == 0.0
    mask[10:, 15:], truth[10:, 15:] = 255, 1
    assert measured(mask, truth, (1, 1), groups={"it": [1]})["it"].hd == 0.0


def test_a_picture_of_one_slice_is_measured_as_a_picture():
    truth = blobs((40, 50))
    flat = measured(moved(truth, (2, 1)), truth, (0.7, 0.7))
    deep = measured(moved(truth, (2, 1))[None], truth[None], (5.0, 0.7, 0.7))
    assert flat == deep


def test_a_tolerance_of_whole_steps_takes_in_what_is_as_far_as_it():
    truth, mask = np.zeros((2, 9, 30), np.uint8)
    truth[:, 5], mask[:, 8] = 1, 1
    assert 3 * 0.7 != 2.1
    assert measured(mask, truth, (0.7, 0.7), 2.1, groups={"it": [1]})["it"].nsd == 1.0


def test_what_is_read_at_once_does_not_grow_with_the_volume():
    read = []
    truth = blobs((40, 12, 12))
    pair = reader(moved(truth), read), reader(truth, read)
    surface_distances(*pair, truth.shape, (1, 1, 1), GROUPS, 4, 1.0, 6.0, (12, 12, 12), 0)
    assert max(max(window.shape) for window in read) <= 12 + 2


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("within", [np.inf, 30.0, 5.0])
def test_the_nearest_is_found_near_and_far_by_tree_and_by_transform(spacing, within):
    random = np.random.default_rng(0)
    others = np.unique(random.integers(0, 12, (40, 3)), axis=0)
    near, far = random.integers(0, 14, (50, 3)), random.integers(40, 60, (900, 3))
    expected = cdist(np.concatenate([near, far]) * spacing, others * spacing).min(axis=1)
    expected[expected > within] = np.inf
    # Many far voxels are transformed; of the last few each is looked up.
    for places, wanted in ((np.concatenate([near, far]), expected), (far[:5], expected[50:55])):
        np.testing.assert_allclose(distances(places, others, spacing, within), wanted, rtol=1e-12)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 60))
def test_percentiles_of_counts_are_numpys_of_the_list(values, cut):
    values = np.array(values) / 4
    counted = Counted.of(values[:cut]) + Counted.of(values[cut:])
    for percent in (0, 5, 50, 95, 99.5, 100):
        assert counted.percentile(percent) == pytest.approx(np.percentile(values, percent))
    assert (counted.total, counted.sum) == (len(values), pytest.approx(values.sum()))
    assert counted.up_to(2.0) == (values <= 2.0).sum()
