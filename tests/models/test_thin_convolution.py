"""In bfloat16 a thin feature map teaches a convolution what it does in float32."""

import pytest
import torch
from torch import nn

from models import build_model
from models.settings import UNetSettings
from models.thin_convolution import ThinConv3d, with_thin_convolutions
from tests.models.networks import SMALL, small

THIN = [(2, 2, 2), (2, 8, 8), (2, 1, 4), (1, 4, 4), (3, 8, 8)]


def convolution(kernel=3, **options):
    torch.manual_seed(0)
    layer = nn.Conv3d(16, 8, kernel, padding=kernel // 2, **options)
    with_thin_convolutions(layer)
    return layer


def learnt(layer, x, low):
    """Give the output and the gradients of weights, bias and input, in float32."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        y = layer(x)
    torch.manual_seed(1)
    y.backward(torch.randn(y.shape).to(y.dtype))
    return y.detach().float(), layer.weight.grad, layer.bias.grad, x.grad


def rubbish():
    """Leave numbers in memory that the next tensor without a value of its own will hold."""
    torch.full((200_000,), 1e30)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", THIN)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (5, 2)])
def test_gradients_are_those_of_float32(kernel, stride, shape, channels_last):
    layer = convolution(kernel, stride=stride)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    layer = layer.to(memory_format=layout)
    x = torch.randn(2, 16, *shape).contiguous(memory_format=layout)
    expected = [value.clone() for value in learnt(layer, x, low=False)]
    for _ in range(3):
        rubbish()
        for ours, theirs in zip(learnt(layer, x, low=True), expected, strict=True):
            # Eight bits of mantissa, of which sums lose some.
            error = (ours - theirs).abs().max() / theirs.abs().max()
            assert error < 0.02


def test_outside_of_training_in_bfloat16_it_is_torchs_own_to_the_bit():
    layer, x = convolution(), torch.randn(2, 16, 2, 4, 4)
    plain = nn.Conv3d(16, 8, 3, padding=1)
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), plain(x))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize("name", [n for n in SMALL if n != "swin"])
def test_every_network_is_made_of_them(name):
    with torch.device("meta"):
        model = build_model(small(name, 3))
    kinds = {type(layer) for layer in model.modules() if isinstance(layer, nn.Conv3d)}
    assert ThinConv3d in kinds and nn.Conv3d not in kinds


def test_a_step_on_a_patch_of_two_slices_below_learns_as_float32():
    settings = UNetSettings(
        ndim=3,
        in_channels=1,
        out_channels=2,
        features=(16, 16),
        strides=((1, 1, 1), (2, 2, 2)),
        kernels=((3, 3, 3),) * 2,
    )
    torch.manual_seed(0)
    model, x = build_model(settings), torch.randn(2, 1, 4, 16, 16)
    gradients = []
    for low in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = model(x)
        rubbish()
        logits.float().square().mean().backward()
        gradients.append([p.grad.flatten().clone() for p in model.parameters()])
    alike = [
        torch.nn.functional.cosine_similarity(a, b, dim=0) for a, b in zip(*gradients, strict=True)
    ]
    assert min(alike) > 0.98
