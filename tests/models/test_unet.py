"""The U-Net gives what its settings say."""

from math import sqrt

import pytest
import torch
from torch import nn

import models
from models import UNet, build_model, fitting_shape, output_shape


def test_public_names_are_pinned():
    assert models.__all__ == [
        "PRESETS",
        "Decision",
        "DiceCELoss",
        "Ensemble",
        "EnsembleSettings",
        "ExportError",
        "Exported",
        "FlipMean",
        "LossSettings",
        "Mirrored",
        "ModelSettings",
        "Network",
        "UNet",
        "UNetSettings",
        "build_model",
        "fitting_shape",
        "halo",
        "load_pretrained",
        "margins",
        "misfit",
        "outline",
        "output_shape",
        "peak_activation_bytes",
        "preset",
        "reach",
        "receptive_field",
        "tiles_exactly",
        "to_torchscript",
        "torchscript_bytes",
        "total_stride",
        "training_memory",
    ]
    assert all(hasattr(models, name) for name in models.__all__)


@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
@pytest.mark.parametrize("downsampling", ["strided", "max_pool"])
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize(("ndim", "size"), [(2, (16, 24)), (3, (8, 16, 12))])
def test_one_step_of_every_kind_gives_logits_and_a_gradient_everywhere(
    build_settings, ndim, size, norm, downsampling, upsampling
):
    settings = build_settings(
        ndim, in_channels=2, norm=norm, downsampling=downsampling, upsampling=upsampling
    )
    model = build_model(settings)
    logits = model(torch.randn(2, 2, *size))
    logits.square().mean().backward()
    assert logits.shape == (2, 3, *size)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_anisotropic_stages_keep_the_size_of_the_input(build_unet):
    model = build_unet(
        3, strides=((1, 1, 1), (1, 2, 2), (2, 2, 4)), kernels=((1, 3, 3), (3, 3, 3), (3, 3, 5))
    )
    assert model.settings.total_stride == (2, 4, 8)
    assert model(torch.zeros(1, 1, 2, 4, 24)).shape == (1, 3, 2, 4, 24)


def test_one_stage_is_a_network_too(build_unet):
    model = build_unet(features=(4,), strides=((1, 1),), kernels=((3, 3),))
    assert model(torch.zeros(1, 1, 5, 7)).shape == (1, 3, 5, 7)


def test_a_size_that_is_no_multiple_of_the_total_stride_is_refused_with_those_that_are(build_unet):
    message = r"input is \(16, 30\) .* \(4, 4\): pad or crop to \(16, 28\) or \(16, 32\)"
    with pytest.raises(ValueError, match=message):
        build_unet()(torch.zeros(1, 1, 16, 30))


def test_a_size_below_the_smallest_is_refused_with_the_smallest(build_unet):
    with pytest.raises(ValueError, match=r"input is \(3, 8\) .*: pad or crop to \(4, 8\)$"):
        build_unet()(torch.zeros(1, 1, 3, 8))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 1, 8, 8, 8), (1, 8, 8)])
def test_wrong_channels_or_axes_are_refused(build_unet, shape):
    with pytest.raises(ValueError, match=r"input has shape .* expected \(B, 1, Y, X\): give one"):
        build_unet()(torch.zeros(*shape))


def test_the_unpadded_network_of_2015_turns_572_into_388(build_settings):
    settings = build_settings(
        features=(2, 2, 2, 2, 2),
        strides=((1, 1), (2, 2), (2, 2), (2, 2), (2, 2)),
        kernels=((3, 3),) * 5,
        norm="none",
        activation="relu",
        downsampling="max_pool",
        padding="valid",
    )
    assert UNet(settings)(torch.zeros(1, 1, 572, 572)).shape == (1, 3, 388, 388)
    assert output_shape(settings, (572, 570)) is None
    assert fitting_shape(settings, (557, 1)) == (572, 188)


@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
@pytest.mark.parametrize("downsampling", ["strided", "max_pool"])
def test_unpadded_sizes_are_foretold(build_unet, downsampling, upsampling):
    model = build_unet(padding="valid", downsampling=downsampling, upsampling=upsampling)
    for size in range(1, 80):
        expected = output_shape(model.settings, (size, size))
        x = torch.zeros(1, 1, size, size)
        if expected is None:
            with pytest.raises(ValueError, match="pad or crop to"):
                model(x)
        else:
            assert model(x).shape[2:] == expected


@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
def test_unpadded_output_is_the_middle_of_the_padded(build_unet, upsampling):
    two = {"features": (3, 4), "strides": ((1, 1), (2, 2)), "kernels": ((3, 3),) * 2}
    two |= {"downsampling": "max_pool", "upsampling": upsampling}
    padded, valid = build_unet(**two).eval(), build_unet(padding="valid", **two).eval()
    valid.load_state_dict(padded.state_dict())
    x = torch.randn(1, 1, 40, 40)
    # Interpolation repeats the border it sees, four voxels in from there nothing is left of it.
    inner = slice(4, -4)
    middle = padded(x)[..., 8:-8, 8:-8][..., inner, inner]
    assert valid(x).shape[2:] == (24, 24)
    # Sums may run in another order: float32 rounding.
    torch.testing.assert_close(valid(x)[..., inner, inner], middle, rtol=0, atol=1e-5)


def test_weights_load_without_pickle_and_give_the_same_bits(build_unet, build_settings, tmp_path):
    model = build_unet(3).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = build_model(build_settings(3)).eval()
    x = torch.randn(1, 1, 8, 8, 8)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x), model(x))


def test_weights_keep_their_names_when_dropout_is_switched_on(build_unet):
    assert build_unet().state_dict().keys() == build_unet(dropout=0.5).state_dict().keys()


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_a_convolution_has_a_bias_exactly_where_no_norm_follows(build_unet, norm):
    units = [m for name, m in build_unet(norm=norm).named_modules() if name.endswith(".conv")]
    assert len(units) == 10
    assert all((unit.bias is None) == (norm != "none") for unit in units)
    units = [m for n, m in build_unet(norm=norm, bias=True).named_modules() if n.endswith(".conv")]
    assert all(unit.bias is not None for unit in units)


def test_initial_weights_have_the_spread_of_he(build_settings):
    model = UNet(build_settings(3, features=(16, 32, 64)))
    inner = model.encoders[2].unit1.conv.weight
    up = model.upsamplings[0].weight
    assert inner.std().item() == pytest.approx(sqrt(2 / (64 * 27)), rel=0.03)
    assert up.std().item() == pytest.approx(sqrt(2 / 64), rel=0.03)


def test_dropout_acts_in_training_only(build_unet):
    model, x = build_unet(dropout=0.5), torch.randn(2, 1, 16, 16)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_bfloat16_and_channels_last_stay_so_in_every_layer(build_unet, ndim, upsampling):
    if ndim == 3 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("torch's own 3-D convolutions, where oneDNN has none, know one layout only")
    layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
    model = build_unet(ndim, upsampling=upsampling).eval().to(memory_format=layout)
    changed, seen = [], []

    def watch(layer, _inputs, output):
        seen.append(layer)
        if output.dtype != torch.bfloat16 or not output.is_contiguous(memory_format=layout):
            changed.append(layer)

    for layer in model.modules():
        if not isinstance(layer, nn.ModuleList):
            layer.register_forward_hook(watch)
    x = torch.randn(1, 1, *(16,) * ndim).to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        model(x)
    assert len(seen) > 40
    assert not changed


def test_the_network_compiles_into_one_graph_for_every_size(build_unet):
    model = build_unet().eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for side in (16, 24, 32):
        x = torch.randn(1, 1, side, 16)
        assert torch.equal(compiled(x), model(x))


@pytest.mark.parametrize("place", ["every", "first", "contracting"])
def test_dropout_stands_where_its_place_says(build_unet, place):
    model = build_unet(dropout=(0.1, 0.2, 0.3), dropout_place=place, blocks="plain")
    found = [(name, m.p) for name, m in model.named_modules() if isinstance(m, nn.Dropout)]
    units = {"every": ("unit0", "unit1"), "first": ("unit0",), "contracting": ("unit1",)}[place]
    down = [(f"encoders.{i}.{u}.dropout", p) for i, p in enumerate((0.1, 0.2, 0.3)) for u in units]
    up = [(f"decoders.{i}.{u}.dropout", p) for i, p in enumerate((0.2, 0.1)) for u in units]
    assert found == (down if place == "contracting" else down + up)


@pytest.mark.parametrize("downsampling", ["strided", "max_pool"])
def test_a_residual_stage_adds_its_input(build_unet, downsampling):
    model = build_unet(blocks="residual", downsampling=downsampling).eval()
    stage = model.encoders[1] if downsampling == "strided" else model.encoders[1].residual
    x = torch.randn(1, 3, 8, 8)
    expected = nn.functional.leaky_relu(stage.units(x) + stage.shortcut(x), 0.01)
    assert torch.equal(stage(x), expected)
    assert [name for name, _ in stage.units.unit1.named_children()] == ["conv", "norm"]
    # Without its convolutions a stage of equal features passes on what it was given.
    same = build_unet(features=(4,), strides=((1, 1),), kernels=((3, 3),), blocks="residual",
                      in_channels=4).encoders[0].eval()  # fmt: skip
    nn.init.zeros_(same.units.unit1.norm.weight)
    nn.init.zeros_(same.units.unit1.norm.bias)
    x = torch.rand(1, 4, 8, 8)
    assert torch.equal(same(x), x)


@pytest.mark.parametrize("upsampling", ["transposed", "linear", "interpolate"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_deep_supervision_gives_logits_of_coarser_stages_in_training_only(
    build_unet, ndim, upsampling
):
    four = {
        "features": (3, 4, 5, 6),
        "strides": ((1,) * ndim, *((2,) * ndim,) * 3),
        "kernels": ((3,) * ndim,) * 4,
    }
    model = build_unet(ndim, deep_supervision=2, upsampling=upsampling, **four).train()
    x = torch.randn(2, 1, *(16,) * ndim)
    logits = model(x)
    assert [tuple(y.shape) for y in logits] == [(2, 3, *(side,) * ndim) for side in (16, 8, 4)]
    sum(y.square().mean() for y in logits).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert isinstance(model.eval()(x), torch.Tensor)


def test_one_voxel_at_the_bottom_is_refused_where_a_norm_takes_its_spread(build_unet):
    message = r"input is \(4, 4\) .*: pad or crop to \(4, 8\)$"
    with pytest.raises(ValueError, match=message):
        build_unet(norm="instance")(torch.zeros(1, 1, 4, 4))
    assert build_unet(norm="instance")(torch.zeros(1, 1, 4, 8)).shape == (1, 3, 4, 8)


def test_batch_norm_is_not_taught_by_one_voxel(build_unet):
    model, x = build_unet(), torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"one image of \(4, 4\) voxels leaves one voxel .* batch"):
        model.train()(x)
    assert model.eval()(x).shape == (1, 3, 4, 4)
    assert build_unet(norm="none").train()(x).shape == (1, 3, 4, 4)
