import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast

from pipeline.io.patch_store import Patch
from pipeline.training.transforms import Augment
from pipeline.training.transforms.intensity import RandGamma, RandNoise, intensity_transforms
from pipeline.training.transforms.tensors import plain

NAMES = ("noise", "blur", "brightness", "contrast", "low resolution", "inverted gamma", "gamma")


def transforms(strength=1.0, coarse=None):
    found = intensity_transforms(strength, 3 if coarse is not None else 2, coarse, bands=False)
    return dict(zip(NAMES, found, strict=True))


def many(transform, image, times, seed=1):
    transform.set_random_state(state=np.random.RandomState(seed))
    return torch.stack([plain(transform(image.clone())) for _ in range(times)])


@pytest.fixture(scope="module")
def image():
    """The same twice, so that what is drawn for each channel shows."""
    noise = torch.randn(1, 40, 40, generator=torch.Generator().manual_seed(0))
    return noise.repeat(2, 1, 1)


@pytest.mark.parametrize(
    ("name", "patches", "channels"),
    [
        ("noise", 0.1, 0.1),
        ("blur", 0.2 * 0.75, 0.1),
        ("brightness", 0.15, 0.15),
        ("contrast", 0.15, 0.15),
        # One zoom in forty rounds to the size itself.
        ("low resolution", 0.25 * 0.75, 0.125 * 39 / 40),
        ("inverted gamma", 0.1, 0.1),
        ("gamma", 0.3, 0.3),
    ],
)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_each_comes_as_often_as_documented(name, patches, channels, strength, image):
    times = 1200
    found = many(transforms(strength)[name], image, times)
    changed = (found != image).flatten(2).any(2)  # (times, C)
    # Four standard deviations of a share of so many draws.
    patches, channels = patches * strength, channels * strength
    allowed = 4 * np.sqrt(patches * (1 - patches) / times)
    assert float(changed.any(1).float().mean()) == pytest.approx(patches, abs=allowed)
    assert float(changed.float().mean()) == pytest.approx(channels, abs=allowed)
    both = found[changed.all(1)]
    # Of twenty lower resolutions two channels sometimes draw the same.
    assert len(both) and (both[:, 0] == both[:, 1]).flatten(1).all(1).float().mean() < 0.2


def changed_channels(name, image, strength=1.0, times=600):
    """What the transform made of channels that it changed, (n, H, W)."""
    found = many(transforms(strength)[name], image, times).flatten(0, 1)
    return found[(found != image[0]).flatten(1).any(1)]


@pytest.mark.parametrize(("strength", "low", "high"), [(1.0, 0.75, 1.25), (2.0, 0.5625, 1.5625)])
def test_brightness_is_one_factor_for_a_channel(image, strength, low, high):
    ratios = (changed_channels("brightness", image, strength) / image[0]).flatten(1)
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios))
    assert low <= ratios.min() < low + 0.05 and high - 0.05 < ratios.max() <= high


def test_contrast_turns_about_the_mean_within_the_range_of_the_channel(image):
    low, high, mean = image.min(), image.max(), image.mean()
    for found in changed_channels("contrast", image, times=300):
        assert found.min() >= low and found.max() <= high
        inner = (found > low) & (found < high) & ((image[0] - mean).abs() > 0.1)
        ratio = ((found - mean) / (image[0] - mean))[inner]
        assert ratio.std() < 1e-4 and 0.75 <= ratio.mean() <= 1.25


def test_noise_has_a_deviation_of_up_to_a_tenth(image):
    noise = RandNoise(1.0, std=0.1)
    added = many(noise, image, 400) - image
    deviations = added.flatten(1).std(1)
    assert deviations.max() < 0.11 and float(deviations.mean()) == pytest.approx(0.05, abs=0.006)
    assert float(added.mean()) == pytest.approx(0, abs=1e-3)
    between = float((added[:, 0] * added[:, 1]).mean())
    assert between == pytest.approx(0, abs=2e-3)  # channels have noise of their own


@pytest.mark.parametrize("name", ["gamma", "inverted gamma"])
def test_gamma_keeps_mean_deviation_and_order(name, image):
    order = image[0].flatten().argsort()
    for found in changed_channels(name, image, times=200):
        assert float(found.mean()) == pytest.approx(float(image.mean()), abs=1e-4)
        assert float(found.std()) == pytest.approx(float(image[0].std()), abs=1e-4)
        assert (found.flatten()[order].diff() >= -1e-5).all()


def test_gamma_is_below_one_as_often_as_above_and_monais_curve(image):
    transform, random = RandGamma(0.7, 1.5, inverted=False), np.random.RandomState(0)
    gammas = []
    for _ in range(1000):
        transform.set_random_state(state=random)
        transform.randomize()
        gammas.append(transform.gamma_value)
    assert np.mean(np.array(gammas) < 1) == pytest.approx(0.5, abs=0.06)
    assert 0.7 <= min(gammas) < 0.71 and 1.49 < max(gammas) <= 1.5
    found = plain(transform(image[:1]))
    expected = plain(AdjustContrast(transform.gamma_value, retain_stats=True)(image[:1]))
    assert torch.equal(found, expected)


def test_a_low_resolution_does_not_move_the_image():
    ramp = torch.arange(48.0).expand(1, 48, 48)
    found = many(transforms()["low resolution"], ramp, 1500)
    changed = found[(found != ramp).flatten(1).any(1)]
    # Taking the first voxel of each cell, as MONAI does unasked, moves it by 0.6 voxels.
    assert float((changed - ramp)[..., 8:-8].mean()) == pytest.approx(0, abs=0.08)
    assert changed.min() >= 0 and changed.max() <= 47.001


def test_blur_smooths_and_keeps_the_mean_up_to_the_border(image):
    for found in changed_channels("blur", image):
        assert found.var() < 0.9 * image[0].var()
        assert float(found.mean()) == pytest.approx(float(image.mean()), abs=0.01)


def test_the_resolution_across_slices_is_never_lowered():
    slices = torch.arange(6.0)[:, None, None].expand(1, 6, 20, 20)
    assert torch.equal(many(transforms(coarse=0)["low resolution"], slices, 60)[-1], slices)
    noise = torch.randn(1, 6, 20, 20, generator=torch.Generator().manual_seed(0))
    found = many(transforms(coarse=0)["low resolution"], noise, 60)
    assert (found != noise).any()
    # A slice that is 0 stays so: nothing comes in from its neighbours.
    noise[:, 3] = 0
    assert (many(transforms(coarse=0)["low resolution"], noise, 60)[:, :, 3] == 0).all()


@pytest.mark.parametrize(("strength", "most"), [(1.0, 0.21), (0.5, 0.1025)])
def test_bands_are_jittered_apart(strength, most):
    with_bands = intensity_transforms(strength, 2, None, bands=True)
    jitter = with_bands[4:-3]
    assert len(with_bands) - len(jitter) == len(NAMES)
    random, ones = np.random.RandomState(3), torch.ones(4, 8, 8)
    found = []
    for _ in range(800):
        bands = ones
        for transform in jitter:
            transform.set_random_state(state=random)
            bands = plain(transform(bands))
        found.append(bands)
    values = torch.stack(found).flatten(2)
    assert (values == values[..., :1]).all()  # all voxels of a band alike
    values = values[..., 0]
    jittered = values[(values != 1).any(1)]
    share = 1 - (1 - 0.5 * strength) ** 2
    assert len(jittered) / len(values) == pytest.approx(share, abs=0.06)
    assert 0.8 * most < (jittered - 1).abs().max() <= most
    assert all(len(set(row.tolist())) == 4 for row in jittered)


@pytest.mark.parametrize("value", [0.0, 3.5, -1000.0])
@pytest.mark.parametrize(("shape", "spacing"), [((12, 12), None), ((4, 12, 12), (9.0, 1.0, 1.0))])
def test_a_constant_patch_stays_finite(value, shape, spacing):
    stored = tuple(n + 4 for n in shape)
    patch = Patch(np.full((2, *stored), value, np.float16), np.zeros(stored, np.uint8))
    augment = Augment(shape, 2.0, True, 255, spacing=spacing, bands=True)
    for seed in range(60):
        image = augment(patch, seed)["image"]
        assert image.isfinite().all() and image.dtype == torch.float32


def test_nothing_but_patch_and_seed_counts():
    """Not what came before, not the global random states; and these go on as if untouched."""
    random = np.random.default_rng(2)
    patch = Patch(random.normal(size=(3, 20, 20)).astype(np.float16), np.zeros((20, 20), np.uint8))
    before = patch.image.copy()
    one, other = (Augment((16, 16), 1.0, True, 255, bands=True) for _ in range(2))
    first = [one(patch, seed)["image"] for seed in range(60)]
    torch.manual_seed(9)
    np.random.seed(9)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    for seed in reversed(range(60)):
        assert torch.equal(other(patch, seed)["image"], first[seed])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert np.array_equal(patch.image, before)
