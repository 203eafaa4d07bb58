import numpy as np
import pytest
import torch

from pipeline.io.patch_store import Patch
from pipeline.training.settings import ElasticSettings
from pipeline.training.transforms import Augment


def drawn(shape, channels=2, weighted=False, seed=0):
    random = np.random.default_rng(seed)
    image = random.normal(size=(channels, *shape)).astype(np.float16)
    label = random.integers(0, 3, shape).astype(np.uint8)
    weight = random.uniform(1, 9, shape).astype(np.float16) if weighted else None
    return Patch(image, label, weight)


@pytest.mark.parametrize("elastic", [None, ElasticSettings(std=2, probability=0.5)])
@pytest.mark.parametrize("shape", [(16, 16), (8, 12, 8)])
def test_augmentation_is_a_function_of_its_seed(shape, elastic):
    patch = drawn(tuple(n + 4 for n in shape), weighted=True)
    augment = Augment(shape, 1.0, True, 255, elastic)
    first = [augment(patch, seed) for seed in range(40)]
    again = [augment(patch, seed) for seed in reversed(range(40))][::-1]
    for one, other in zip(first, again, strict=True):
        assert one.keys() == other.keys() == {"image", "label", "weight"}
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(a["image"].shape == (2, *shape) and a["label"].shape == shape for a in first)
    assert len({a["image"].numpy().tobytes() for a in first}) == 40
    assert {int(v) for a in first for v in a["label"].unique()} <= {0, 1, 2, 255}


@pytest.mark.parametrize("elastic", [None, ElasticSettings(std=3)])
def test_image_label_and_weight_move_together(elastic):
    """The image is its label and its weight: after any warp they still agree away from borders."""
    label = np.zeros((40, 40), np.uint8)
    label[12:30, 8:25] = 1
    augment = Augment((32, 32), 1.0, True, 255, elastic)
    augment._intensity = []
    patch = Patch(label[None].astype(np.float16), label, label.astype(np.float16) * 7)
    for seed in range(30):
        found = augment(patch, seed)
        image = found["image"][0]
        sure = ((image < 0.2) | (image > 0.8)) & (found["label"] != 255)
        assert torch.equal((image > 0.5)[sure], (found["label"] == 1)[sure])
        assert torch.equal((found["weight"] == 7)[sure], (found["label"] == 1)[sure])


def test_values_of_a_regression_move_with_the_image_and_stay_unknown_where_they_were():
    values = np.linspace(-2, 2, 1600, dtype=np.float32).reshape(40, 40)
    values[5:20, 5:20] = np.nan
    patch = Patch(np.nan_to_num(values, nan=9)[None].astype(np.float16), values)
    augment = Augment((32, 32), 1.0, True, float("nan"))
    augment._intensity = []
    for seed in range(30):
        found = augment(patch, seed)
        known = ~found["label"].isnan()
        assert 0 < known.sum() < known.numel()
        # Rows are a tenth apart; nearest and bilinear differ by less than one row and a half.
        near = (found["image"][0] - found["label"]).abs()[known & (found["image"][0] < 2.1)]
        assert near.quantile(0.9) < 0.16


@pytest.mark.parametrize(("ndim", "points"), [(2, 3), (3, 3), (2, 5)])
def test_elastic_deformation_has_the_spread_it_is_asked_for(ndim, points):
    """Measured on an image of its own coordinates: how far each voxel has come."""
    size = 41
    axes = np.meshgrid(*[np.arange(size)] * ndim, indexing="ij")
    coordinates = np.stack(axes).astype(np.float16)
    patch = Patch(coordinates, np.zeros((size,) * ndim, np.uint8))
    augment = Augment((size,) * ndim, 0.0, False, 255, ElasticSettings(std=1.5, points=points))
    middle = (slice(None), *(slice(size // 2, size // 2 + 1),) * ndim)  # a point of the grid
    moved = [
        augment(patch, seed)["image"][middle].flatten().numpy() - size // 2 for seed in range(300)
    ]
    assert np.std(moved) == pytest.approx(1.5, rel=0.12)
    assert abs(np.mean(moved)) < 0.3


def test_a_turned_patch_sees_its_mirror_image_or_nothing_where_it_looks_past_the_stored_one():
    patch = Patch(np.ones((1, 24, 24), np.float16), np.ones((24, 24), np.uint8))
    far = ElasticSettings(std=8)
    empty, mirrored = (Augment((24, 24), 0.0, False, 255, far, m) for m in (False, True))
    zeros = [empty(patch, seed) for seed in range(10)]
    ones = [mirrored(patch, seed) for seed in range(10)]
    assert all((a["image"] == 0).any() and (a["label"] == 255).any() for a in zeros)
    for one, zero in zip(ones, zeros, strict=True):
        torch.testing.assert_close(one["image"], torch.ones(1, 24, 24))
        assert torch.equal(one["label"], zero["label"])


def test_without_strength_a_patch_is_cut_out_and_nothing_else():
    image = np.arange(400, dtype=np.float16).reshape(1, 20, 20)
    label = (image[0] % 3).astype(np.uint8)
    found = Augment((16, 16), 0.0, False, 255)(Patch(image, label), seed=4)
    y, x = divmod(int(found["image"][0, 0, 0]), 20)
    cut = (slice(y, y + 16), slice(x, x + 16))
    assert torch.equal(found["image"][0], torch.from_numpy(image[0][cut]).float())
    assert torch.equal(found["label"], torch.from_numpy(label[cut]).long())
