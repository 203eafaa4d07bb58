"""Every loss that settings can name leaves voxels without truth alone, exactly."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import (
    BCESettings,
    BorderSettings,
    ClDiceSettings,
    CrossEntropySettings,
    DeepSupervision,
    DiceCESettings,
    DiceFocalSettings,
    DiceSettings,
    LossSettings,
    MAESettings,
    MSESettings,
    SmoothL1Settings,
    TverskySettings,
    activation,
    build_loss,
    output_channels,
)

IGNORED, CLASSES = 255, 3
SETTINGS = [
    CrossEntropySettings(),
    CrossEntropySettings(class_weights=(0.5, 1, 3)),
    CrossEntropySettings(class_weights=(0.5, 1, 3), border=BorderSettings()),
    DiceSettings(),
    DiceCESettings(),
    DiceFocalSettings(),
    DiceFocalSettings(gamma=0.5),
    TverskySettings(),
    BCESettings(),
    BCESettings(regions=((1, 2), (0, 2)), dice=True),
    ClDiceSettings(),
    ClDiceSettings(share=1, iterations=1),
    MSESettings(),
    MAESettings(),
    SmoothL1Settings(beta=0.3),
]
SHAPES = {"2d": (2, 9, 8), "3d": (2, 4, 6, 5)}
every_loss = pytest.mark.parametrize(
    "chosen", SETTINGS, ids=lambda s: f"{s.kind}-{len(s.model_dump(exclude_defaults=True))}"
)
in_2d_and_3d = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


class Case:
    """A loss, and random data that go with it."""

    def __init__(self, chosen, shape, seed=0):
        torch.manual_seed(seed)
        self.regression = activation(chosen) == "linear"
        channels = 1 if self.regression else output_channels(chosen, classes=3, background=False)
        loss = build_loss(chosen, classes=CLASSES, background=False, ignore_index=IGNORED)
        self.loss = loss
        self.logits = (3 * torch.randn(shape[0], channels, *shape[1:])).requires_grad_()
        self.labels = torch.randint(CLASSES, shape)
        if self.regression:
            self.labels = torch.randn(shape).unsqueeze(1)
        weighted = getattr(chosen, "border", None) is not None
        self.weights = [1 + 5 * torch.rand(shape)] if weighted else []

    def ignore(self, where):
        """Take the truth from some voxels, (B, *S), and spoil the logits and weights there."""
        garbage = torch.tensor([float("nan"), float("inf"), -1e30])[torch.randint(3, where.shape)]
        if self.regression:
            self.labels[where.unsqueeze(1)] = float("nan")
        else:
            self.labels[where] = IGNORED
        for weights in self.weights:
            weights[where] = garbage[where]
        with torch.no_grad():
            self.logits.copy_(torch.where(where.unsqueeze(1), garbage.unsqueeze(1), self.logits))

    def __call__(self, logits=None):
        return self.loss(self.logits if logits is None else logits, self.labels, *self.weights)


def test_no_kind_of_loss_is_forgotten_here():
    kinds = {type(chosen) for chosen in SETTINGS}
    assert kinds == set(get_args(get_args(LossSettings)[0]))


@every_loss
@in_2d_and_3d
def test_a_loss_is_one_finite_float32_and_teaches_every_channel(chosen, shape):
    case = Case(chosen, shape)
    loss = case()
    loss.backward()
    assert loss.dtype == torch.float32 and loss.ndim == 0
    assert loss.isfinite() and loss > 0
    assert case.logits.grad.isfinite().all()
    assert (case.logits.grad.abs().flatten(2).sum(-1) > 0).all()


@every_loss
@in_2d_and_3d
def test_ignored_voxels_have_no_gradient_whatever_stands_there(chosen, shape):
    case = Case(chosen, shape)
    ignored = torch.rand(shape) < 0.4
    case.ignore(ignored)
    loss = case()
    loss.backward()
    gradient = case.logits.grad.movedim(1, -1)  # (B, *S, K)
    assert loss.isfinite()
    assert (gradient[ignored] == 0).all()
    assert gradient[~ignored].isfinite().all()
    assert (gradient[~ignored] != 0).any()


@every_loss
@in_2d_and_3d
def test_ignoring_a_region_equals_cutting_it_off(chosen, shape):
    case = Case(chosen, shape)
    cut = torch.zeros(shape, dtype=torch.bool)
    cut[:, 3:] = True
    case.ignore(cut)
    whole = case()
    axis = 2 if case.regression else 1
    kept = [case.labels.narrow(axis, 0, 3), *(w[:, :3] for w in case.weights)]
    part = case.loss(case.logits[:, :, :3], *kept)
    assert whole.item() == pytest.approx(part.item(), rel=1e-6, abs=1e-6)  # order of sums


@every_loss
@in_2d_and_3d
def test_a_batch_without_truth_has_loss_and_gradient_zero(chosen, shape):
    case = Case(chosen, shape)
    case.ignore(torch.ones(shape, dtype=torch.bool))
    loss = case()
    loss.backward()
    assert loss.item() == 0
    assert (case.logits.grad == 0).all()


@every_loss
def test_one_patch_without_truth_leaves_the_others_theirs(chosen):
    case = Case(chosen, SHAPES["2d"])
    empty = torch.zeros(SHAPES["2d"], dtype=torch.bool)
    empty[1] = True
    case.ignore(empty)
    case().backward()
    assert (case.logits.grad[1] == 0).all()
    assert (case.logits.grad[0] != 0).any()


@every_loss
@in_2d_and_3d
def test_half_precision_is_computed_in_float32_and_autocast_changes_nothing(chosen, shape):
    case = Case(chosen, shape)
    case.ignore(torch.rand(shape) < 0.2)
    low = case.logits.detach().bfloat16()
    expected = case(low.float())
    with torch.autocast("cpu", torch.bfloat16):
        within = case(low)
    assert case(low).dtype == within.dtype == torch.float32
    assert torch.equal(case(low), expected)
    assert torch.equal(within, expected)


@every_loss
def test_saturated_logits_give_finite_gradients(chosen):
    case = Case(chosen, SHAPES["2d"])
    with torch.no_grad():
        case.logits.mul_(100)
    case().backward()
    assert case.logits.grad.isfinite().all()


@every_loss
def test_the_gradient_is_the_slope(chosen):
    case = Case(chosen, (1, 4, 4))
    case.ignore(torch.rand(1, 4, 4) < 0.2)
    known = case.logits.detach().nan_to_num(0, 0, 0).clamp(-9, 9).requires_grad_()
    (slope,) = torch.autograd.grad(case(known), known)
    step = 1e-2 * slope.sign()
    with torch.no_grad():
        rise = case(known + step) - case(known - step)
    expected = 2 * (step * slope).sum()
    # Central differences of float32; max-pools, and errors' corners, bend within the step.
    assert rise.item() == pytest.approx(expected.item(), rel=0.05)


@every_loss
def test_deep_supervision_keeps_ignored_voxels_out_at_every_level(chosen):
    case = Case(chosen, (2, 8, 8))
    ignored = torch.zeros(2, 8, 8, dtype=torch.bool)
    ignored[:, :4] = True
    case.ignore(ignored)
    heads = [case.logits.detach()[..., ::n, ::n].clone().requires_grad_() for n in (1, 2, 4)]
    DeepSupervision(case.loss)(heads, case.labels, *case.weights).backward()
    for head in heads:
        half = head.shape[2] // 2
        assert (head.grad[:, :, :half] == 0).all()
        assert (head.grad[:, :, half:] != 0).any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("chosen", [s for s in SETTINGS if activation(s) != "linear"], ids=str)
def test_any_integer_labels_will_do(chosen, dtype):
    case = Case(chosen, SHAPES["2d"])
    case.labels[:, :2] = IGNORED
    expected = case()
    case.labels = case.labels.to(dtype)
    assert torch.equal(case(), expected)


@pytest.mark.parametrize("chosen", [s for s in SETTINGS if activation(s) != "linear"], ids=str)
@pytest.mark.parametrize("wrong", [CLASSES, -1])
def test_a_label_that_is_no_class_is_an_error(chosen, wrong):
    case = Case(chosen, SHAPES["2d"])
    case.labels[0, 0, 0] = wrong
    with pytest.raises(IndexError, match="out of bounds"):
        case()


@given(st.integers(0, 10**6), st.sampled_from(SETTINGS), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_what_stands_at_ignored_voxels_never_changes_the_loss(seed, chosen, share):
    case = Case(chosen, (2, 5, 6), seed)
    ignored = torch.rand(2, 5, 6) < share
    case.ignore(ignored)
    one = case()
    case.ignore(ignored)
    assert torch.equal(case(), one)
