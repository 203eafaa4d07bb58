from itertools import chain, combinations

import pytest
import torch
from torch import Tensor

from models import FlipMean, build_model, fitting_shape
from models.averages import average
from tests.trained import random_network, small_plan


def test_the_mean_of_probabilities_is_what_its_logits_stand_for():
    one, other = torch.randn(2, 2, 3, 4, 5) * 5
    classes = average([one, other], "softmax").softmax(1)
    torch.testing.assert_close(classes, (one.softmax(1) + other.softmax(1)) / 2)
    regions = average([one, other], "sigmoid").sigmoid()
    torch.testing.assert_close(regions, (one.sigmoid() + other.sigmoid()) / 2)
    torch.testing.assert_close(average([one, other], "linear"), (one + other) / 2)


def test_certain_outputs_stay_numbers():
    certain = torch.tensor([[[1000.0]], [[-1000.0]]]).reshape(1, 2, 1, 1)
    for kind in ("softmax", "sigmoid"):
        made = average([certain, certain], kind)
        assert made.isfinite().all() and made.argmax(1).item() == 0


def test_averaging_leaves_what_it_is_given():
    given = torch.randn(1, 2, 3, 3)
    kept = given.clone()
    for kind in ("softmax", "sigmoid", "linear"):
        average([given, given], kind)
        assert torch.equal(given, kept)


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_image_is_asked_about_in_every_flip(ndim):
    network = random_network(small_plan(ndim))
    x = torch.randn(1, 1, *(8, 12, 16)[:ndim])
    axes = range(2, 2 + ndim)
    every = list(chain.from_iterable(combinations(axes, n) for n in range(ndim + 1)))
    assert len(every) == 2**ndim
    with torch.no_grad():
        said: list[Tensor] = [network(x.flip(a)).flip(a).softmax(1) for a in every]
        together = FlipMean(network, "softmax")
        torch.testing.assert_close(together(x).softmax(1), torch.stack(said).mean(0))
        # A mean over all flips does not tell an image from its mirror image.
        torch.testing.assert_close(together(x.flip(2)), together(x).flip(2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_box_of_the_mean_is_the_box_of_the_whole(padding):
    plan = small_plan(2)
    settings = plan.network.model_copy(update={"padding": padding, "downsampling": "max_pool"})
    network = build_model(settings).eval()
    x = torch.randn(1, 1, *fitting_shape(settings, (60, 70)))
    with torch.no_grad():
        together = FlipMean(network, "softmax").double()
        whole = together(x.double())
        box = ((3, 17), (0, 9))
        part = together.inside(x.double(), box)
    torch.testing.assert_close(part, whole[..., 3:17, 0:9], rtol=1e-6, atol=1e-6)


def test_a_network_that_loses_more_at_one_end_is_refused():
    settings = small_plan(2).network.model_copy(update={"padding": "valid"})
    with pytest.raises(ValueError, match="its mirror images do not meet"):
        FlipMean(build_model(settings), "softmax")
