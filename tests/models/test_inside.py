"""A box of the output is what the whole output holds there, for less work."""

from itertools import product
from random import Random

import pytest
import torch

from models import EnsembleSettings, build_model
from models.network import cut
from tests.models.networks import small

WAYS = [
    {"upsampling": up, "downsampling": down, "blocks": blocks}
    for up, down, blocks in product(
        ("transposed", "linear", "interpolate"), ("strided", "max_pool"), ("plain", "residual")
    )
]
UNEQUAL = {
    2: {"strides": ((1, 1), (2, 1), (3, 2)), "kernels": ((3, 3), (1, 3), (3, 5))},
    3: {"strides": ((1, 1, 1), (1, 2, 2), (3, 2, 2)), "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 5))},
}
APART = [
    {"padding": "valid", "downsampling": "max_pool"},
    {"upsampling": "linear", "align_corners": True},
]


def boxes(shape, count=6):
    """Boxes anywhere, two of them at either end, and all of it."""
    random = Random(0)
    for _ in range(count):
        yield tuple(tuple(sorted(random.sample(range(n + 1), 2))) for n in shape)
    yield tuple((0, 1) for _ in shape)
    yield tuple((n - 1, n) for n in shape)
    yield tuple((0, n) for n in shape)


def assert_boxes_agree(model, x):
    with torch.inference_mode():
        whole = model(x)
        for box in boxes(whole.shape[2:]):
            expected = cut(whole, box)
            made = model.inside(x, box)
            # Convolutions of another size may add in another order: float64 rounding, no more.
            torch.testing.assert_close(made, expected, rtol=0, atol=1e-10 * whole.abs().max())


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("way", [*WAYS, *APART], ids=lambda way: "-".join(map(str, way.values())))
def test_a_box_of_a_unet_is_that_of_its_whole_output(way, ndim, build_unet):
    stages = {} if way in APART else UNEQUAL[ndim]
    model = build_unet(ndim, **stages, **way).double().eval()
    bottom = (12, 14, 11)[:ndim] if way.get("padding") == "valid" else (5, 9, 7)[:ndim]
    fitting = range(1, 200)
    shape = [
        next(n for n in fitting if model.settings.bottom_size(axis, n) == size)
        for axis, size in enumerate(bottom)
    ]
    assert_boxes_agree(model, torch.randn(1, 1, *shape, dtype=torch.float64))


@pytest.mark.parametrize("name", ["unet deep", "unet instance", "unet++", "segresnet"])
def test_every_network_gives_boxes(name, randomise):
    model = randomise(build_model(small(name, 2))).double().eval()
    x = torch.randn(2, 2, *(2 * n for n in model.settings.total_stride), dtype=torch.float64)
    assert_boxes_agree(model, x)


def test_an_ensemble_gives_boxes_without_looking_at_the_rest(build_settings, randomise):
    model = randomise(build_model(EnsembleSettings.of(build_settings(), 2))).eval()
    x = torch.randn(1, 1, 64, 64)
    seen = []
    model.members[1].decoders[-1].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.inference_mode():
        torch.testing.assert_close(model.inside(x, ((28, 36), (0, 8))), model(x)[..., 28:36, :8])
    # Two convolutions of 3 voxels reach two voxels.
    assert [given.shape[2:] for given in seen] == [(12, 10), (64, 64)]


def test_a_box_asks_for_an_image_that_fits(build_unet):
    with pytest.raises(ValueError, match="pad or crop"):
        build_unet().eval().inside(torch.zeros(1, 1, 30, 30), ((0, 1), (0, 1)))
