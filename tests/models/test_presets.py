"""Published networks have the shapes and the parameter counts of their publications."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from models import PRESETS, build_model, preset, tiles_exactly


def counted(name, ndim=2, in_channels=1, out_channels=2, **options):
    """Build a preset without storage; give it and its parameter count."""
    with torch.device("meta"):
        model = build_model(preset(name, ndim, in_channels, out_channels, **options))
    return model, sum(p.numel() for p in model.parameters())


def conv(inputs, outputs, voxels, bias=True):
    return inputs * outputs * voxels + outputs * bias


def plain_unet(features, ndim, inputs, outputs):
    """Count a U-Net of two biased 3x3 convolutions per stage and 2x2 up-convolutions."""
    three, two = 3**ndim, 2**ndim
    down = sum(conv(a, b, three) + conv(b, b, three) for a, b in pairwise((inputs, *features)))
    up = sum(
        conv(b, a, two) + conv(2 * a, a, three) + conv(a, a, three) for a, b in pairwise(features)
    )
    return down + up + conv(features[0], outputs, 1)


@pytest.mark.parametrize(("ndim", "inputs", "outputs"), [(2, 1, 2), (2, 3, 4), (3, 1, 2)])
def test_unet_2015_and_unet_small_have_the_parameters_of_plain_unets(ndim, inputs, outputs):
    for name, top in (("unet-2015", 64), ("unet-small", 16)):
        features = tuple(top * 2**i for i in range(5))
        assert counted(name, ndim, inputs, outputs)[1] == plain_unet(
            features, ndim, inputs, outputs
        )


def test_published_counts_are_met():
    assert counted("unet-2015")[1] == 31_030_658
    assert counted("unet-small", 2, 3, 1)[1] == 1_941_105
    assert counted("unet-bilinear", 2, 3, 2, bilinear=False)[1] == 31_037_698


def test_unet_2015_turns_572_into_388_through_the_sizes_of_its_figure():
    model, _ = counted("unet-2015")
    sizes = []
    for layer in (*model.encoders, *model.upsamplings, *model.decoders):
        layer.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    with torch.device("meta"):
        assert model(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    down = [(64, 568), (128, 280), (256, 136), (512, 64), (1024, 28)]
    up = [
        (512, 56),
        (512, 52),
        (256, 104),
        (256, 100),
        (128, 200),
        (128, 196),
        (64, 392),
        (64, 388),
    ]
    assert sizes == [(features, side, side) for features, side in (*down, *up)]
    assert tiles_exactly(model)


def dropouts(model):
    return [(name, m.p) for name, m in model.named_modules() if isinstance(m, nn.Dropout)]


def test_unet_2015_drops_out_at_the_end_of_its_contracting_path_only():
    found = dropouts(counted("unet-2015")[0])
    assert found == [(f"encoders.{i}.unit1.dropout", 0.5) for i in (3, 4)]


def test_unet_small_drops_out_between_the_convolutions_of_every_level():
    found = dropouts(counted("unet-small")[0])
    down = [(f"encoders.{i}.unit0.dropout", p) for i, p in enumerate((0.1, 0.1, 0.2, 0.2, 0.3))]
    up = [(f"decoders.{i}.unit0.dropout", p) for i, p in enumerate((0.2, 0.2, 0.1, 0.1))]
    assert found == down + up


class DoubleConv(nn.Sequential):
    def __init__(self, inputs, middle, outputs):
        pairs = ((inputs, middle), (middle, outputs))
        super().__init__(
            *(
                layer
                for a, b in pairs
                for layer in (nn.Conv2d(a, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            )
        )


class BilinearUNet(nn.Module):
    """The published U-Net with bilinear upsampling, written out."""

    def __init__(self):
        super().__init__()
        down = [(3, 64, 64), (64, 128, 128), (128, 256, 256), (256, 512, 512), (512, 512, 512)]
        up = [(1024, 512, 256), (512, 256, 128), (256, 128, 64), (128, 64, 64)]
        self.down = nn.ModuleList(DoubleConv(*sides) for sides in down)
        self.up = nn.ModuleList(DoubleConv(*sides) for sides in up)
        self.head = nn.Conv2d(64, 2, 1)

    def forward(self, x):
        skips = []
        for i, stage in enumerate(self.down):
            x = stage(nn.functional.max_pool2d(x, 2) if i else x)
            skips.append(x)
        for stage, skip in zip(self.up, skips[-2::-1], strict=True):
            options = {"scale_factor": 2, "mode": "bilinear", "align_corners": True}
            x = stage(torch.cat((skip, nn.functional.interpolate(x, **options)), 1))
        return self.head(x)


def test_unet_bilinear_computes_what_the_published_network_does(randomise):
    torch.manual_seed(0)
    model = randomise(build_model(preset("unet-bilinear", 2, 3, 2))).eval()
    oracle = BilinearUNet().eval()
    ours, theirs = model.state_dict(), oracle.state_dict()
    oracle.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    x = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), oracle(x), rtol=1e-5, atol=1e-5)  # float32 rounding
    assert not tiles_exactly(model)
    assert tiles_exactly(build_model(preset("unet-bilinear", 2, 3, 2, bilinear=False)))


@pytest.mark.parametrize(("ndim", "cap", "stages"), [(2, 512, 8), (3, 320, 6)])
def test_nnunet_doubles_32_features_up_to_its_cap(ndim, cap, stages):
    features = tuple(min(32 * 2**i, cap) for i in range(stages))
    model, count = counted("nnunet", ndim, 4, 5)
    assert model.settings.features == features
    # Each convolution brings scale and shift of its instance norm, each stage of the way up a head.
    norms = 2 * (2 * sum(features) + 2 * sum(features[:-1]))
    heads = sum(conv(f, 5, 1) for f in features[1:-1])
    assert count == plain_unet(features, ndim, 4, 5) + norms + heads
    assert not tiles_exactly(model)
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.01}
    assert not any(isinstance(m, nn.MaxPool2d | nn.MaxPool3d) for m in model.modules())


def test_nnunet_takes_what_a_plan_holds():
    strides, kernels = [(1, 1, 1), (1, 2, 2), (2, 2, 2)], [(1, 3, 3), (3, 3, 3), (3, 3, 3)]
    settings = preset("nnunet", 3, 1, 2, strides=strides, kernels=kernels, most_features=48)
    assert settings.features == (32, 48, 48)
    assert settings.total_stride == (2, 4, 4)
    assert settings.kernels == tuple(kernels)
    assert settings.deep_supervision == 1


def test_fc_densenet103_has_the_features_of_its_table():
    model, count = counted("fc-densenet103")
    assert model.settings.features == (112, 192, 304, 464, 656, 896)
    inputs = [block.layers[0][0].num_features for block in model.decoders]
    # The paper counts a block's own features too; its 578 is a slip for 576.
    made = [16 * len(block.layers) for block in model.decoders]
    assert [a + b for a, b in zip(inputs, made, strict=True)] == [1088, 816, 576, 384, 256]
    assert model.head.in_channels == 256
    assert round(count / 1e6, 1) == 9.3


# Of torchvision and EfficientNet-PyTorch, classifiers taken off.
BACKBONES = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnet152": 60_192_808 - 2_049_000,
    "resnext50_32x4d": 25_028_904 - 2_049_000,
    "resnext101_32x8d": 88_791_336 - 2_049_000,
    "densenet121": 7_978_856 - 1_025_000,
    "densenet161": 28_681_000 - 2_209_000,
    "densenet169": 14_149_480 - 1_665_000,
    "densenet201": 20_013_928 - 1_921_000,
    "efficientnet-b0": 5_288_548 - 1_281_000 - 2_560 - 320 * 1280,
}


@pytest.mark.parametrize("encoder", BACKBONES)
def test_backbones_have_the_parameters_of_the_published_ones(encoder):
    model, _ = counted(f"{encoder}-unet", 2, 3, 1)
    assert sum(p.numel() for p in model.encoder.parameters()) == BACKBONES[encoder]


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "swin-unetr"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_preset_is_a_network_in_two_and_three_dimensions(name, ndim):
    model, _ = counted(name, ndim)
    step = model.settings.total_stride
    side = 188 if name == "unet-2015" else 2 * step[0]
    with torch.device("meta"):
        logits = model.eval()(torch.zeros(1, 1, *(side,) * ndim))
    assert logits.shape == (1, 2, *(4 if name == "unet-2015" else side,) * ndim)


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no preset 'unet': use one of unet-2015, unet-small"):
        preset("unet", 2, 1, 2)
