"""The loss equals its parts elsewhere, and never looks at what is ignored."""

import pytest
import torch
from monai.losses import DiceLoss
from torch.nn import functional as F

from models import DiceCELoss

IGNORED = 255


@pytest.fixture(params=[(2, 4, 9, 7), (2, 3, 4, 5, 6)], ids=["2d", "3d"])
def batch(request):
    """Give random logits (B, K, *S) that want a gradient, and labels (B, *S)."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(request.param)).requires_grad_()
    labels = torch.randint(request.param[1], (request.param[0], *request.param[2:]))
    return logits, labels


@pytest.mark.parametrize("background", [True, False])
def test_dice_is_monais(batch, background):
    logits, labels = batch
    oracle = DiceLoss(
        include_background=background,
        to_onehot_y=True,
        softmax=True,
        batch=True,
        smooth_nr=1e-3,
        smooth_dr=1e-3,
    )
    dice, _ = DiceCELoss(background=background, smooth=1e-3).parts(logits, labels)
    expected = oracle(logits, labels.unsqueeze(1))
    assert dice.item() == pytest.approx(expected.item(), abs=1e-6)  # float32 rounding


def test_cross_entropy_is_torchs_with_and_without_ignored_voxels(batch):
    logits, labels = batch
    for ignored in (0, 3):
        labels[:, :ignored] = IGNORED
        _, ours = DiceCELoss(background=True).parts(logits, labels)
        expected = F.cross_entropy(logits, labels, ignore_index=IGNORED)
        assert ours.item() == pytest.approx(expected.item(), abs=1e-6)  # float32 rounding


def test_the_loss_is_the_sum_of_its_parts_and_so_is_its_gradient(batch):
    logits, labels = batch
    loss = DiceCELoss(background=False, smooth=1e-3)
    oracle = DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-3,
        smooth_dr=1e-3,
    )  # fmt: skip
    (ours,) = torch.autograd.grad(loss(logits, labels), logits)
    expected = oracle(logits, labels.unsqueeze(1)) + F.cross_entropy(logits, labels)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("garbage", [0.0, 1e30, float("inf"), float("nan")])
def test_ignored_voxels_have_no_gradient_whatever_stands_there(batch, garbage):
    logits, labels = batch
    ignored = torch.rand(labels.shape) < 0.3
    labels[ignored] = IGNORED
    with torch.no_grad():
        logits.masked_fill_(ignored.unsqueeze(1), garbage)
    DiceCELoss(background=True)(logits, labels).backward()
    gradient = logits.grad.movedim(1, -1)  # (B, *S, K)
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored] != 0).all()


def test_ignoring_a_region_equals_cutting_it_off(batch):
    logits, labels = batch
    labels[:, 2:] = IGNORED
    loss = DiceCELoss(background=False)
    cut = loss(logits[:, :, :2], labels[:, :2])
    assert loss(logits, labels).item() == pytest.approx(cut.item(), abs=1e-6)  # order of sums


def test_another_ignore_index_may_be_a_class(batch):
    logits, labels = batch
    zero, other = DiceCELoss(background=True, ignore_index=0), DiceCELoss(background=True)
    relabelled = labels.where(labels != 0, IGNORED)
    assert torch.equal(zero(logits, labels), other(logits, relabelled))


def test_a_batch_without_valid_voxels_has_loss_and_gradient_zero(batch):
    logits, labels = batch
    loss = DiceCELoss(background=False)(logits, torch.full_like(labels, IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_half_precision_logits_are_computed_in_float32(batch):
    logits, labels = batch
    low = logits.detach().bfloat16()
    loss = DiceCELoss(background=True)
    assert loss(low, labels).dtype == torch.float32
    assert torch.equal(loss(low, labels), loss(low.float(), labels))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integer_labels_will_do(batch, dtype):
    logits, labels = batch
    labels[:, :2] = IGNORED
    loss = DiceCELoss(background=True)
    assert torch.equal(loss(logits, labels.to(dtype)), loss(logits, labels))


def test_a_label_that_is_no_class_is_an_error(batch):
    logits, labels = batch
    labels[0, 0] = logits.shape[1]
    with pytest.raises(IndexError, match="out of bounds"):
        DiceCELoss(background=True)(logits, labels)


def test_labels_with_a_channel_axis_are_refused(batch):
    logits, labels = batch
    with pytest.raises(ValueError, match="labels have shape .* without a channel axis"):
        DiceCELoss(background=True)(logits, labels.unsqueeze(1))


def test_labels_that_are_no_integers_are_refused(batch):
    logits, labels = batch
    with pytest.raises(ValueError, match="labels are torch.float32: give class indices"):
        DiceCELoss(background=True)(logits, labels.float())


def test_one_class_and_no_background_leave_nothing_to_score():
    with pytest.raises(ValueError, match="logits have 1 class and background is left out"):
        DiceCELoss(background=False)(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2).long())


def test_smooth_must_be_positive():
    with pytest.raises(ValueError, match="smooth is 0: an absent class would give 0/0"):
        DiceCELoss(background=True, smooth=0)
