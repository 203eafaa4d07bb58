import numpy as np
import pytest
import torch

from pipeline.io.patch_store import Patch
from pipeline.training.settings import ElasticSettings
from pipeline.training.transforms import Augment
from pipeline.training.transforms.spatial import Movement, SpatialTransform, coarse_axis

DRAWS = 4000


def transform(shape, strength=1.0, spacing=None):
    return SpatialTransform(shape, strength, None, coarse_axis(shape, spacing), mirrored=False)


def draws(shape, strength=1.0, spacing=None):
    drawn, random = transform(shape, strength, spacing), np.random.RandomState(5)
    return [drawn.draw(random) or Movement() for _ in range(DRAWS)]


@pytest.mark.parametrize(
    ("shape", "spacing", "axes", "most"),
    [
        ((40, 56, 40), None, 3, 30),
        ((64, 64), None, 1, 180),
        ((64, 100), None, 1, 15),
        ((12, 64, 64), (5.0, 1.0, 1.0), 1, 180),
        ((64, 64, 16), None, 1, 180),
        ((64, 12, 100), (1.0, 5.0, 1.0), 1, 15),
    ],
)
def test_a_fifth_is_rotated_and_independently_a_fifth_scaled(shape, spacing, axes, most):
    drawn = draws(shape, spacing=spacing)
    rotated, scaled = (np.array([bool(m.angles) for m in drawn]), [m.scale != 1 for m in drawn])
    assert np.mean(rotated) == pytest.approx(0.2, abs=0.025)
    assert np.mean(scaled) == pytest.approx(0.2, abs=0.025)
    assert np.mean(rotated & scaled) == pytest.approx(0.04, abs=0.012)
    angles = np.rad2deg([m.angles for m in drawn if m.angles])
    assert angles.shape[1] == axes
    assert 0.97 * most < np.abs(angles).max() <= most
    assert np.abs(angles).mean() == pytest.approx(most / 2, rel=0.08)
    scales = np.array([m.scale for m in drawn if m.scale != 1])
    assert 0.7 <= scales.min() < 0.72 and 1.38 < scales.max() <= 1.4
    assert scales.mean() == pytest.approx(1.05, abs=0.03)


def test_strength_scales_how_often_and_how_far():
    half, twice = draws((40, 56, 40), 0.5), draws((64, 64), 2.0)
    assert np.mean([bool(m.angles) for m in half]) == pytest.approx(0.1, abs=0.02)
    assert max(abs(a) for m in half for a in m.angles) <= np.deg2rad(15)
    assert min(m.scale for m in half) >= 0.7**0.5 and max(m.scale for m in half) <= 1.4**0.5
    assert np.mean([bool(m.angles) for m in twice]) == pytest.approx(0.4, abs=0.03)
    assert max(abs(a) for m in twice for a in m.angles) <= np.pi
    assert all(m == Movement() for m in draws((40, 56, 40), 0.0))


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 2.9), (1.0, 4.0, 4.0)])
def test_axes_are_alike_where_none_stands_out(spacing):
    assert coarse_axis((40, 56, 40), spacing) is None


def test_the_coarse_axis_is_the_spacings_and_else_the_thin_patchs():
    assert coarse_axis((20, 40, 40), (1.0, 1.0, 3.1)) == 2
    assert coarse_axis((60, 20, 61)) == 1
    assert coarse_axis((60, 20, 60)) is None
    assert coarse_axis((10, 100)) is None


def random_maps(shape, seed=0):
    random = np.random.default_rng(seed)
    image = torch.from_numpy(random.normal(size=(2, *shape)).astype(np.float32))
    truth = torch.from_numpy(random.integers(0, 5, (2, *shape)).astype(np.float32))
    return image, truth


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize(
    ("ndim", "axis", "plane"), [(2, 0, (1, 2)), (3, 0, (2, 3)), (3, 2, (1, 2))]
)
def test_a_quarter_turn_is_a_quarter_turn(ndim, axis, plane, size):
    image, truth = random_maps((size,) * ndim)
    angles = tuple(np.pi / 2 if a == axis else 0.0 for a in range(3 if ndim == 3 else 1))
    turned, labels = transform((size,) * ndim)(image, truth, Movement(angles), classes=False)
    # The sine of a float32 angle is off by 1e-7, a voxel at the far end by 1e-6 of its way.
    torch.testing.assert_close(turned, image.rot90(-1, plane), atol=1e-4, rtol=0)
    assert torch.equal(labels, truth.rot90(-1, plane))


@pytest.mark.parametrize("ndim", [2, 3])
def test_scaled_by_two_every_other_voxel_is_seen(ndim):
    image, truth = random_maps((17,) * ndim)
    seen, labels = transform((9,) * ndim)(image, truth, Movement(scale=2.0), classes=False)
    every = (slice(None), *(slice(None, None, 2),) * ndim)
    torch.testing.assert_close(seen, image[every], atol=1e-5, rtol=0)
    assert torch.equal(labels, truth[every])


def from_border(size, angle):
    """Distance of each voxel of a plane from a border through its middle, signed."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.cos(angle) * x + np.sin(angle) * y


def test_borders_of_classes_stay_straight_when_they_are_turned():
    label = np.where(from_border(64, 0.3) > 0, 2, 1)
    truth = torch.from_numpy(np.stack([label, np.ones_like(label)]).astype(np.float32))
    move, image = transform((32, 32)), torch.zeros(1, 64, 64)
    wrong: dict[bool, list[float]] = {True: [], False: []}
    for angle in np.arange(0.1, 1.5, 0.05):
        expected = from_border(32, 0.3 + angle)
        for classes, distances in wrong.items():
            _, (found, _) = move(image, truth, Movement((angle,)), classes=classes)
            distances.extend(np.abs(expected[(expected > 0) != (found.numpy() == 2)]))
    assert max(wrong[True]) < 0.45 < max(wrong[False])
    assert sum(wrong[True]) < 0.6 * sum(wrong[False])


def test_where_the_truth_is_not_known_no_class_gains():
    label = np.ones((20, 20), np.uint8)
    label[:, 10:], label[:8] = 0, 255
    patch = Patch(np.zeros((1, 20, 20), np.float16), label)
    augment = Augment((16, 16), 2.0, False, 255)
    for seed in range(40):
        found = augment(patch, seed)["label"]
        assert set(found.unique().tolist()) <= {0, 1, 255}
        # The border between 0 and 1 is one line, whatever lies at its end.
        assert (found[found != 255]).numel() > 0


@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_an_anisotropic_patch_never_leaves_its_slices(coarse):
    """Image and label are the number of the slice: they agree, and slices follow each other."""
    shape, stored = np.full(3, 24), np.full(3, 30)
    shape[coarse], stored[coarse] = 6, 8
    spacing = tuple(5.0 if axis == coarse else 1.0 for axis in range(3))
    label = np.moveaxis(np.zeros((30, 30, 8), np.uint8) + np.arange(8, dtype=np.uint8), 2, coarse)
    patch = Patch(label[None].astype(np.float16), label)
    elastic = ElasticSettings(std=3, probability=0.3)
    shape = tuple(int(n) for n in shape)
    augment = Augment(shape, 2.0, False, 255, elastic, mirrored=True, spacing=spacing)
    augment._intensity = []
    starts = set()
    for seed in range(60):
        found = augment(patch, seed)
        slices = found["image"][0].movedim(coarse, 0)
        start = int(slices[0, 0, 0].round())
        starts.add(start)
        expected = torch.arange(start, start + 6)[:, None, None].expand(6, 24, 24)
        torch.testing.assert_close(slices, expected.float(), atol=1e-4, rtol=0)
        labels = found["label"].movedim(coarse, 0)
        known = labels != 255
        assert known.any() and torch.equal(labels[known], expected[known])
    assert starts == {0, 1, 2}


def test_all_slices_of_an_anisotropic_patch_are_moved_alike():
    plane = np.random.default_rng(1).normal(size=(1, 1, 40, 40)).astype(np.float16)
    patch = Patch(np.repeat(plane, 8, axis=1), np.zeros((8, 40, 40), np.uint8))
    augment = Augment((6, 32, 32), 2.0, False, 255, spacing=(5.0, 1.0, 1.0))
    augment._intensity = []
    for seed in range(20):
        image = augment(patch, seed)["image"][0]
        assert torch.equal(image, image[:1].expand_as(image))


@pytest.mark.parametrize("spacing", [None, (5.0, 1.0, 1.0)])
def test_where_there_is_no_label_none_comes_to_be(spacing):
    label = np.zeros((16, 30, 30), np.uint8)
    label[:, 8:20, 5:22] = 255
    patch = Patch((label[None] == 255).astype(np.float16), label)
    augment = Augment((12, 24, 24), 2.0, True, 255, spacing=spacing)
    augment._intensity = []
    for seed in range(40):
        found = augment(patch, seed)
        assert set(found["label"].unique().tolist()) <= {0, 255}
        assert (found["label"][found["image"][0] > 0.9] == 255).all()
        assert (found["image"][0][found["label"] == 0] < 0.9).all()


def test_without_strength_a_patch_of_bands_or_slices_is_only_cut_out():
    image = np.arange(2 * 8 * 10 * 10).reshape(2, 8, 10, 10).astype(np.float16)
    patch = Patch(image, (np.arange(800).reshape(8, 10, 10) % 3).astype(np.uint8))
    augment = Augment((6, 8, 8), 0.0, False, 255, spacing=(5.0, 1.0, 1.0), bands=True)
    for seed in range(10):
        found = augment(patch, seed)
        z, rest = divmod(int(found["image"][0, 0, 0, 0]), 100)
        y, x = divmod(rest, 10)
        cut = (slice(z, z + 6), slice(y, y + 8), slice(x, x + 8))
        assert torch.equal(found["image"], torch.from_numpy(image[(slice(None), *cut)]).float())
        assert torch.equal(found["label"], torch.from_numpy(patch.label[cut]).long())


def test_mirroring_takes_every_axis_half_of_the_time():
    image = np.zeros((1, 4, 5, 6), np.float16)
    image[0, 0, 0, 0] = 1
    patch = Patch(image, image[0].astype(np.uint8))
    augment = Augment((4, 5, 6), 0.0, True, 255)
    corners = np.array([augment(patch, s)["image"][0].nonzero()[0].numpy() for s in range(800)])
    assert np.allclose((corners > 0).mean(axis=0), 0.5, atol=0.07)
