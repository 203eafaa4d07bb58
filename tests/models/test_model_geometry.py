"""Stride and halo, as measured, are those of the network: shown on random weights."""

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from models import fitting_shape, halo, reach, receptive_field, tiles_exactly, total_stride

NETWORKS = {
    "2d": (2, {}),
    "2d linear max-pool": (2, {"upsampling": "linear", "downsampling": "max_pool"}),
    "2d one conv, wide kernel": (2, {"convs_per_stage": 1, "kernels": ((5, 3), (3, 3), (3, 1))}),
    "2d stride 3 linear": (2, {"strides": ((1, 1), (3, 2), (1, 2)), "upsampling": "linear"}),
    "2d no norm, relu": (2, {"norm": "none", "activation": "relu", "features": (6, 8, 8)}),
    "2d valid": (2, {"padding": "valid", "downsampling": "max_pool"}),
    "2d valid strided": (2, {"padding": "valid"}),
    "2d residual": (2, {"blocks": "residual", "downsampling": "max_pool"}),
    "2d interpolated": (2, {"upsampling": "interpolate", "features": (3, 4, 4)}),
    "3d": (3, {"features": (2, 3, 3)}),
    "3d anisotropic": (
        3,
        {
            "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 1)),
            "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
            "upsampling": "linear",
        },
    ),
}


@pytest.fixture(params=NETWORKS)
def network(request, build_unet):
    """Give each network of the table in evaluation and float64."""
    ndim, changes = NETWORKS[request.param]
    return build_unet(ndim, **changes).double().eval()


def volume_for(model, blocks_beyond):
    """Give a random volume, and where in it the middle block lies, halo and more around it."""
    stride, margin = total_stride(model), halo(model)
    start = [h + blocks_beyond * s for h, s in zip(margin, stride, strict=True)]
    least = [2 * first + s for first, s in zip(start, stride, strict=True)]
    size = fitting_shape(model.settings, least)
    return torch.randn(1, 1, *size, dtype=torch.float64), start


def block_of(model, x, start):
    """Give the output for the block that starts at these input voxels, one total stride long."""
    with torch.inference_mode():
        y = model(x)
    for axis, (first, step) in enumerate(zip(start, total_stride(model), strict=True), start=2):
        y = y.narrow(axis, first - (x.shape[axis] - y.shape[axis]) // 2, step)
    return y


def test_a_tile_with_its_halo_equals_the_whole_volume(network):
    x, start = volume_for(network, blocks_beyond=2)
    tile, margin = x, halo(network)
    read = [h * 2 + s for h, s in zip(margin, total_stride(network), strict=True)]
    for axis, size in enumerate(fitting_shape(network.settings, read)):
        tile = tile.narrow(axis + 2, start[axis] - margin[axis], size)
    assert tile.numel() < x.numel()
    whole = block_of(network, x, start)
    # Convolutions of another size may add in another order: float64 rounding, no more.
    torch.testing.assert_close(block_of(network, tile, margin), whole, rtol=0, atol=1e-10)


def test_the_voxels_at_the_reach_matter_and_those_beyond_do_not(network):
    x, start = volume_for(network, blocks_beyond=1)
    before = block_of(network, x, start)
    for axis, (low, high) in enumerate(reach(network)):
        first = start[axis] - low
        last = start[axis] + total_stride(network)[axis] - 1 + high
        for position, matters in ((first - 1, 0), (first, 1), (last, 1), (last + 1, 0)):
            changed = x.clone()
            # Weights at the edge are products of many small ones: push hard, to be seen.
            changed.select(axis + 2, position).add_(1e6)
            assert torch.equal(block_of(network, changed, start), before) != matters


def test_the_stride_measured_is_the_one_that_settings_foretell(network):
    assert total_stride(network) == network.settings.total_stride


def test_halo_is_the_larger_reach_rounded_up_to_the_total_stride(network):
    for (low, high), stride, margin in zip(
        reach(network), total_stride(network), halo(network), strict=True
    ):
        assert margin % stride == 0
        assert margin - stride < max(low, high) <= margin


def test_total_stride_is_the_smallest_shift_that_commutes(build_unet):
    model = build_unet(strides=((1, 1), (2, 2), (2, 3))).double().eval()
    stride, margin = total_stride(model), halo(model)
    assert stride == (4, 6)
    x = torch.randn(1, 1, *(2 * h + 4 * s for h, s in zip(margin, stride, strict=True)))
    x = x.double()
    for axis, (step, around) in enumerate(zip(stride, margin, strict=True), start=2):
        for shift in range(1, step + 1):
            moved = model(x.roll(shift, axis)).roll(-shift, axis) - model(x)
            inner = moved.narrow(axis, around, x.shape[axis] - 2 * around - step)
            assert (inner.abs().max() < 1e-10) == (shift == step)


def test_the_receptive_field_is_the_one_worked_out_by_hand():
    # Two 3x3 convolutions see 5 voxels. A pool of 2 after them sees 6; a convolution of 3 on that
    # grid sees 6 + 2 * 2; and each of the two voxels that come of one cell sees just as much.
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
        *(nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ConvTranspose2d(4, 2, 2, 2)),
    )
    assert receptive_field(model) == (10, 10)
    assert total_stride(model) == (2, 2)
    assert reach(model) == ((4, 4), (4, 4))


def test_interpolation_from_corner_to_corner_does_not_tile(build_unet):
    options = {"upsampling": "interpolate", "align_corners": True, "features": (3, 4, 4)}
    model = build_unet(**options).double().eval()
    assert not tiles_exactly(model)
    x = torch.randn(1, 1, 96, 96, dtype=torch.float64)
    middle = model(x)[..., 40:56, 40:56] - model(x[..., 8:88, 8:88])[..., 32:48, 32:48]
    assert middle.abs().max() > 1e-3


def test_the_reach_of_one_convolution_is_half_its_kernel(build_unet):
    model = build_unet(
        features=(2,), strides=((1, 1),), kernels=((3, 7),), convs_per_stage=1, out_channels=2
    )
    assert reach(model) == ((1, 1), (3, 3))
    assert halo(model) == (1, 3)


def test_a_reach_beyond_the_first_strip_is_found(build_unet):
    model = build_unet(
        features=(1,), strides=((1, 1),), kernels=((3, 3),), convs_per_stage=150, norm="none"
    )
    assert reach(model) == ((150, 150), (150, 150))


def test_depth_does_not_make_the_gradient_underflow():
    # 3 ** -120 is below the smallest float32: at the far corner a plain gradient is zero.
    deep = nn.Sequential(*[nn.Conv1d(1, 1, 3, padding=1) for _ in range(120)])
    assert reach(deep) == ((120, 120),)


def test_a_network_of_monai_is_measured_and_tiles_too(randomise):
    torch.manual_seed(0)
    model = BasicUNet(2, 1, 2, features=(2, 2, 3, 3, 4, 2), norm="batch")
    model = randomise(model).double().eval()
    margin, stride = halo(model), total_stride(model)
    assert stride == (16, 16)
    assert tiles_exactly(model)
    x = torch.randn(1, 1, 2 * margin[0] + 64, 2 * margin[1] + 48, dtype=torch.float64)
    tile = x[..., 32 : 32 + 2 * margin[0] + 16, 16 : 16 + 2 * margin[1] + 16]
    with torch.inference_mode():
        whole = model(x)[..., 32 + margin[0] :, 16 + margin[1] :][..., :16, :16]
        inner = model(tile)[..., margin[0] :, margin[1] :][..., :16, :16]
    torch.testing.assert_close(inner, whole, rtol=0, atol=1e-10)  # float64 rounding


def test_measuring_leaves_model_and_random_numbers_alone(build_unet):
    model = build_unet()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        halo(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_networks_without_window_statistics_tile_exactly(build_unet):
    assert tiles_exactly(build_unet(norm="batch", upsampling="linear"))
    assert tiles_exactly(build_unet(norm="none"))


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_networks_with_window_statistics_do_not(build_unet, norm):
    model = build_unet(norm=norm).double().eval()
    x, start = volume_for(model, blocks_beyond=1)
    far = x.clone()
    far[..., 0, 0] += 100
    assert not torch.equal(block_of(model, x, start), block_of(model, far, start))
    assert not tiles_exactly(model)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(4),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_single_layer_that_sees_the_window_is_enough(layer):
    assert not tiles_exactly(nn.Sequential(nn.Conv2d(1, 4, 3), layer))


def test_global_layers_have_no_halo():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ValueError, match=r"layer 1 \(AdaptiveAvgPool2d\) sees the whole window"):
        halo(model)


def test_an_endless_reach_is_refused():
    class Mean(nn.Module):
        def forward(self, x):
            return x + x.mean()

    model = nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), Mean())
    with pytest.raises(ValueError, match="axis 0 does not end within 8192 voxels"):
        reach(model)


def test_a_network_without_convolution_is_refused():
    with pytest.raises(ValueError, match="Linear has no convolution to measure"):
        total_stride(nn.Linear(2, 2))


def test_a_network_that_takes_fixed_sizes_cannot_be_measured():
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(10, 2))
    with pytest.raises(ValueError, match=r"does not take a strip of \(256, 1\) .*: use a network"):
        total_stride(model)


def test_a_dilated_pool_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(3, 1, 1, dilation=2))
    with pytest.raises(ValueError, match="is dilated: its reach cannot be measured"):
        halo(model)
