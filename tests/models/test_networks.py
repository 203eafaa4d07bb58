"""Every network in two and three dimensions learns, says what fits, is stored, and tiles or not."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from models import build_model, fitting_shape, halo, receptive_field, tiles_exactly, total_stride
from models.settings import ModelSettings
from tests.models.networks import SEES_THE_WINDOW, SMALL, TILES, outputs, rows, small


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def image(settings, batch=2, **kwargs):
    """Give a random image of the smallest size that fits."""
    shape = fitting_shape(settings, (1,) * settings.ndim)
    return torch.randn(batch, settings.in_channels, *shape, **kwargs)


@pytest.mark.parametrize(("name", "ndim"), rows(SMALL, 2, 3))
def test_a_step_of_training_reaches_every_weight_with_and_without_autocast(name, ndim):
    settings = small(name, ndim)
    model, x = build_model(settings), image(settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for low in (False, True):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = outputs(model, x)
        sum(y.float().square().mean() for y in logits).backward()
        assert logits[0].shape == (2, 3, *x.shape[2:])
        assert logits[0].dtype == (torch.bfloat16 if low else torch.float32)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()


@pytest.mark.parametrize(("name", "ndim"), rows(SMALL, 2, 3))
def test_odd_sizes_are_refused_with_those_that_fit(name, ndim):
    settings = small(name, ndim)
    model = build_model(settings).eval()
    fitting = fitting_shape(settings, (33,) * ndim)
    with pytest.raises(ValueError, match="input is .* grow in steps of its total stride") as caught:
        model(torch.zeros(1, 2, *(33,) * ndim))
    assert str(fitting) in str(caught.value)
    with torch.inference_mode():
        smallest = image(settings, batch=1)
        assert model(smallest).shape[2:] == smallest.shape[2:]


@pytest.mark.parametrize(("name", "ndim"), rows(SMALL, 2, 3))
def test_weights_load_without_pickle_and_give_the_same_bits(name, ndim, tmp_path, randomise):
    settings = small(name, ndim)
    model = randomise(build_model(settings)).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other, x = build_model(settings).eval(), image(settings, batch=1)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.inference_mode():
        assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("name", SMALL)
def test_settings_of_every_kind_survive_json(name):
    settings = small(name, 3)
    adapter = TypeAdapter(ModelSettings)
    assert adapter.validate_json(adapter.dump_json(settings)) == settings
    schema = type(settings).model_json_schema()["properties"]
    assert all(field["description"] for field in schema.values())


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(
        ValidationError, match="'vnet' .*'unet', 'unet_plus_plus', 'attention_unet'"
    ):
        TypeAdapter(ModelSettings).validate_python({"kind": "vnet", "ndim": 2})


@pytest.mark.parametrize("name", ["unet++ deep", "dynunet deep"])
def test_logits_of_other_nodes_are_given_in_training_only_finest_first(name):
    settings = small(name, 2)
    model, x = build_model(settings), image(settings)
    many = outputs(model.train(), x)
    assert len(many) == {"unet++ deep": 4, "dynunet deep": 2}[name]
    assert {y.shape for y in many} == {(2, 3, *x.shape[2:])}
    model.eval()
    # The finest comes first: with frozen statistics it is what evaluation gives.
    for layer in model.modules():
        layer.training = isinstance(layer, type(model)) or layer is model.network
    assert torch.equal(model(x)[0], model.eval()(x))


@pytest.mark.parametrize("name", rows(SMALL))
def test_the_stride_measured_is_the_one_that_settings_foretell(name):
    for ndim in (2, 3):
        settings = small(name, ndim)
        assert total_stride(build_model(settings)) == settings.total_stride


# Other backbones see thousands of voxels; in three dimensions all have the same layers.
TILE_ROWS = [
    pytest.param(name, ndim, marks=[pytest.mark.slow] * (name in ("resnext", "densenet")))
    for ndim in (2, 3)
    for name in TILES
    if ndim == 2 or name not in ("resnet", "resnext", "densenet")
]


def cut(x, start, size):
    """Give a piece along the first spatial axis."""
    return x.narrow(2, start, size)


@pytest.mark.parametrize(("name", "ndim"), TILE_ROWS)
def test_a_tile_with_its_halo_equals_the_whole(name, ndim, randomise):
    model = randomise(build_model(small(name, ndim))).double().eval()
    assert tiles_exactly(model)
    step, margin = total_stride(model)[0], halo(model)[0]
    start = margin + 2 * step
    others = total_stride(model)[1:]
    x = torch.randn(1, 2, 2 * start + step, *others, dtype=torch.float64)
    with torch.inference_mode():
        whole = model(x)
        inside = model(cut(x, start - margin, 2 * margin + step))
        edge = model(cut(x, 0, step + margin))
    # Convolutions of another size may add in another order: float64 rounding, no more.
    scale = whole.abs().max()
    for part, first in ((cut(inside, margin, step), start), (cut(edge, 0, step), 0)):
        torch.testing.assert_close(part, cut(whole, first, step), rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("name", rows(SEES_THE_WINDOW))
def test_networks_that_see_the_window_do_not_tile(name, randomise):
    settings = small(name, 2)
    model = randomise(build_model(settings)).double().eval()
    assert not tiles_exactly(model)
    x = image(settings, batch=1, dtype=torch.float64)
    shape = (*x.shape[2:-1], 4 * x.shape[-1])
    x = torch.randn(1, 2, *shape, dtype=torch.float64)
    far = x.clone()
    far[..., -1] += 100
    with torch.inference_mode():
        assert not torch.equal(model(x)[..., 0], model(far)[..., 0])


@pytest.mark.parametrize("name", rows(["efficientnet", "swin"]))
def test_where_a_layer_sees_all_there_is_no_receptive_field_and_no_halo(name):
    model = build_model(small(name, 2))
    assert receptive_field(model) is None
    with pytest.raises(ValueError, match="sees the whole window, so no halo is enough"):
        halo(model)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("segresnet", {"blocks_up": (1,)}, "blocks_down has 3 stages, blocks_up 1: the way up"),
        ("dynunet", {"features": (4, 4, 4, 4)}, "have 4, 3 and 3 stages of .* one entry per stage"),
        ("dynunet", {"kernels": ((3, 3, 3),) * 3}, r"stages of \[2, 3\] axes: .* 2 numbers per"),
        ("dynunet", {"kernels": ((2, 2),) * 3}, "the first stride is all ones, kernels are odd"),
        ("dynunet", {"deep_supervision": 2}, "deep_supervision is 2 with 3 stages: use at most 1"),
        ("swin", {"first_features": 20}, "multiple of 12"),
        ("resnet", {"encoder": "vgg16"}, "Input should be 'resnet18', 'resnet34'"),
    ],
)
def test_settings_that_cannot_work_say_what_to_change(name, changes, message):
    with pytest.raises(ValidationError, match=message):
        small(name, 2, **changes)
