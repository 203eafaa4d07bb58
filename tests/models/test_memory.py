from math import prod

import pytest
import torch

from models import (
    build_model,
    fitting_shape,
    output_shape,
    peak_activation_bytes,
    preset,
    training_memory,
)
from models.memory import pass_memory
from models.settings import UNetSettings


def stack(features):
    """A network of one stage: a convolution after the other, and a head."""
    return build_model(
        UNetSettings(
            ndim=2,
            in_channels=1,
            out_channels=1,
            features=(features,),
            strides=((1, 1),),
            kernels=((3, 3),),
            norm="none",
        )
    )


def test_the_peak_of_a_chain_is_its_largest_pair_of_tensors():
    found = peak_activation_bytes(stack(8), (64, 64), torch.float32)
    # The input, and what goes into a convolution and comes out of it.
    pair = 2 * 8 * 64 * 64 * 4
    assert pair <= found <= pair + 3 * 64 * 64 * 4


def test_half_the_numbers_take_half_the_memory_and_weights_do_not_count():
    model = build_model(preset("unet-small", 2, 1, 2))
    whole, half = (
        peak_activation_bytes(model, (512, 512), d) for d in (torch.float32, torch.bfloat16)
    )
    assert 0.5 <= half / whole < 0.56  # the input stays float32, and copies of weights are made
    small = peak_activation_bytes(model, (256, 256), torch.float32)
    assert abs(whole / small - 4) < 0.01
    assert all(not parameter.is_meta for parameter in model.parameters()) and model.training


def test_a_training_step_keeps_what_a_pass_lets_go():
    settings = preset("unet-small", 2, 1, 2)
    model = build_model(settings)
    memory = training_memory(settings, torch.float32)
    learning = memory.bytes(4 * 256 * 256)
    passing = 4 * peak_activation_bytes(model, (256, 256), torch.float32)
    assert 2 * passing < learning < 20 * passing
    # Every activation of the first stage alone: two convolutions of 16 features, two activations.
    assert memory.per_voxel > 4 * 16 * 4


@pytest.mark.parametrize("name", ["dynunet", "unet-2015"])
def test_a_training_step_in_bfloat16_holds_less(name):
    settings = preset(name, 2, 1, 2)
    whole, half = (training_memory(settings, d).per_voxel for d in (torch.float32, torch.bfloat16))
    assert 0.4 < half / whole < 0.8


@pytest.mark.parametrize("name", ["unet-small", "dynunet", "unet-2015"])
def test_what_a_box_needs_is_never_more_than_foretold(name):
    settings = preset(name, 2, 1, 2)
    model, memory = build_model(settings), pass_memory(settings, torch.float32)
    shape = fitting_shape(settings, (512, 512))
    ends = output_shape(settings, shape)
    found = []
    for side in (32, 128, 256, min(ends)):
        box = tuple(((n - side) // 2, (n + side) // 2) for n in ends)
        around = zip(memory.rim, shape, strict=True)
        wanted = prod(min(side + 2 * rim, n) for rim, n in around)
        found.append(peak_activation_bytes(model, shape, torch.float32, box))
        assert found[-1] <= memory.bytes(prod(shape), wanted)
    # A U-Net of ours computes less for less; others compute all.
    assert (found[0] < 0.7 * found[-1]) == (name == "unet-small")
    assert (memory.per_shown < 0.7 * memory.per_voxel) == (name == "unet-small")
