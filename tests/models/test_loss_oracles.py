"""Losses against MONAI and torch, on data without ignored voxels and with."""

import pytest
import torch
from monai import losses as monai
from monai.losses.cldice import soft_skel
from torch.nn import functional as F

from models.losses import (
    ClDiceLoss,
    CrossEntropyLoss,
    DiceCELoss,
    DiceFocalLoss,
    DiceLoss,
    RegionLoss,
    RegressionLoss,
    TverskyLoss,
)
from models.losses.cldice import soft_skeleton

IGNORED = 255
ROUNDING = {"rtol": 0, "atol": 1e-6}  # float32, other order of sums


@pytest.fixture(params=[(2, 4, 9, 7), (2, 3, 4, 5, 6)], ids=["2d", "3d"])
def batch(request):
    """Give random logits (B, K, *S) that want a gradient, and labels (B, *S)."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(request.param)).requires_grad_()
    labels = torch.randint(request.param[1], (request.param[0], *request.param[2:]))
    return logits, labels


def agree(ours, theirs, logits):
    """Value and gradient are the same."""
    torch.testing.assert_close(ours, theirs, **ROUNDING)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, **ROUNDING)


def as_channel(labels):
    return labels.unsqueeze(1)


SOFTMAX = {"to_onehot_y": True, "softmax": True}


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("ignored", [0, 3])
def test_dice_is_monais(batch, background, ignored):
    logits, labels = batch
    labels[:, :ignored] = IGNORED
    oracle = monai.DiceLoss(
        include_background=background, batch=True, ignore_index=IGNORED, **SOFTMAX
    )
    ours = DiceLoss(background=background)(logits, labels)
    agree(ours, oracle(logits, as_channel(labels)), logits)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("ignored", [0, 3])
@pytest.mark.parametrize(("fp", "fn"), [(0.3, 0.7), (1, 0), (1, 1)])
def test_tversky_is_monais(batch, background, ignored, fp, fn):
    logits, labels = batch
    labels[:, :ignored] = IGNORED
    oracle = monai.TverskyLoss(
        include_background=background,
        batch=True,
        alpha=fp,
        beta=fn,
        ignore_index=IGNORED,
        **SOFTMAX,
    )
    ours = TverskyLoss(background=background, false_positives=fp, false_negatives=fn)
    agree(ours(logits, labels), oracle(logits, as_channel(labels)), logits)


def test_tversky_with_equal_weights_is_dice(batch):
    tversky = TverskyLoss(background=False, false_positives=0.5, false_negatives=0.5, smooth=0.5e-5)
    agree(tversky(*batch), DiceLoss(background=False)(*batch), batch[0])


def test_dice_focal_is_monais_with_softmax_in_both(batch):
    logits, labels = batch
    classes = logits.shape[1]
    # MONAI's mean goes over classes too, of which one has a term; and its focal part of this
    # sum is a sigmoid's unless told.
    oracle = monai.DiceFocalLoss(batch=True, gamma=2, lambda_focal=classes, **SOFTMAX)
    oracle.focal.use_softmax = True
    agree(DiceFocalLoss(background=True)(*batch), oracle(logits, as_channel(labels)), logits)


@pytest.mark.parametrize("gamma", [0.5, 1, 2, 5])
def test_focal_is_monais_where_voxels_are_ignored(batch, gamma):
    logits, labels = batch
    labels[:, :2] = IGNORED
    focal = monai.FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma, ignore_index=IGNORED)
    dice = monai.DiceLoss(include_background=False, batch=True, ignore_index=IGNORED, **SOFTMAX)
    expected = dice(logits, as_channel(labels)) + focal(logits, as_channel(labels))
    ours = DiceFocalLoss(background=False, gamma=gamma)(logits, labels)
    agree(ours, expected, logits)


def test_dice_focal_without_focus_is_dice_plus_cross_entropy(batch):
    ours = DiceFocalLoss(background=False, gamma=0)(*batch)
    agree(ours, DiceCELoss(background=False)(*batch), batch[0])


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_centre_line_dice_is_monais(batch, background, iterations):
    logits, labels = batch
    # MONAI adds `smooth` to a divisor that is never 0, and asks it to be positive.
    oracle = monai.SoftclDiceLoss(
        iter_=iterations, include_background=background, smooth=1e-30, **SOFTMAX
    )
    ours = ClDiceLoss(background=background, share=1, iterations=iterations)
    # Max-pools of equal values may send the gradient to either, so values alone are compared.
    torch.testing.assert_close(
        ours(logits, labels), oracle(logits, as_channel(labels).float()), **ROUNDING
    )


def test_centre_line_dice_mixed_with_dice_is_monais_patch_by_patch(batch):
    logits, labels = batch
    oracle = monai.SoftDiceclDiceLoss(alpha=0.3, smooth=1e-30, **SOFTMAX)
    for patch in range(2):
        one = logits[patch : patch + 1], labels[patch : patch + 1]
        ours = ClDiceLoss(background=True, share=0.3)(*one)
        torch.testing.assert_close(ours, oracle(one[0], as_channel(one[1]).float()), **ROUNDING)


@pytest.mark.parametrize("size", [(13, 11), (7, 9, 8)], ids=["2d", "3d"])
def test_the_soft_skeleton_is_monais_and_its_gradient_too(size):
    torch.manual_seed(1)
    p = torch.rand(2, 2, *size, requires_grad=True)  # no two values alike
    valid = torch.ones(2, 1, *size, dtype=torch.bool)
    ours, theirs = soft_skeleton(p, valid, 3), soft_skel(p, 3)
    torch.testing.assert_close(ours, theirs, **ROUNDING)
    gradients = [torch.autograd.grad(s.square().sum(), p)[0] for s in (ours, theirs)]
    torch.testing.assert_close(*gradients, **ROUNDING)


def test_the_skeleton_of_a_bar_is_its_middle_line():
    bar = torch.zeros(1, 1, 7, 12)
    bar[..., 2:5, :] = 1
    skeleton = soft_skeleton(bar, torch.ones_like(bar, dtype=torch.bool), 3)
    assert (skeleton[0, 0, 3] == 1).all()
    assert skeleton.sum() == 12


def test_a_broken_vessel_costs_more_centre_line_dice_than_a_thin_one():
    truth = torch.zeros(1, 11, 40).long()
    truth[:, 4:7] = 1
    broken, thin = truth.clone(), torch.zeros_like(truth)
    broken[:, :, 15:25] = 0
    thin[:, 5] = 1

    def loss(predicted):
        logits = 40 * torch.nn.functional.one_hot(predicted, 2).movedim(-1, 1).float()
        return ClDiceLoss(background=False, share=1)(logits, truth).item()

    assert loss(truth) < 1e-6 < loss(broken)
    assert loss(thin) < 0.5 * loss(broken)


@pytest.mark.parametrize("ignored", [0, 3])
@pytest.mark.parametrize("weighted", [True, False])
def test_cross_entropy_is_torchs(batch, weighted, ignored):
    logits, labels = batch
    labels[:, :ignored] = IGNORED
    weights = [0.1, 2, 1, 0][: logits.shape[1]] if weighted else None
    ours = CrossEntropyLoss(class_weights=weights)(logits, labels)
    tensor = None if weights is None else torch.tensor(weights)
    agree(ours, F.cross_entropy(logits, labels, weight=tensor, ignore_index=IGNORED), logits)


@pytest.mark.parametrize("class_weights", [None, (1, 2, 0.5, 3)])
def test_voxel_weights_multiply_the_terms_of_cross_entropy(batch, class_weights):
    logits, labels = batch
    labels[:, 0] = IGNORED
    weights = 10 * torch.rand(labels.shape)
    by_class = torch.tensor(class_weights or (1,) * 4).float()[: logits.shape[1]]
    valid = labels != IGNORED
    terms = F.cross_entropy(logits, labels, weight=by_class, ignore_index=IGNORED, reduction="none")
    expected = (terms * weights).sum() / by_class[labels[valid]].sum()
    loss = CrossEntropyLoss(class_weights=class_weights and class_weights[: logits.shape[1]])
    ours = loss(logits, labels, weights)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)  # float32, sums of some tens
    ones = torch.ones_like(weights)
    agree(loss(logits, labels, ones), loss(logits, labels), logits)


def test_classes_that_weigh_nothing_give_zero_and_not_nan(batch):
    logits, labels = batch
    loss = CrossEntropyLoss(class_weights=[0, *[1] * (logits.shape[1] - 1)])
    assert loss(logits, torch.zeros_like(labels)).item() == 0


@pytest.mark.parametrize("ignored", [0, 3])
def test_binary_cross_entropy_of_regions_is_torchs(batch, ignored):
    logits, labels = batch
    labels[:, :ignored] = IGNORED
    regions = ((1, 2), (2,), (0, 1))
    truth = torch.stack([torch.isin(labels, torch.tensor(r)) for r in regions], 1).float()
    ours = RegionLoss(regions=regions, classes=logits.shape[1])(logits[:, :3], labels)
    expected = F.binary_cross_entropy_with_logits(logits[:, :3, ignored:], truth[:, :, ignored:])
    agree(ours, expected, logits)


def test_dice_of_regions_is_monais_with_sigmoid(batch):
    logits, labels = batch
    regions = ((1, 2), (2,), (0, 1))
    truth = torch.stack([torch.isin(labels, torch.tensor(r)) for r in regions], 1).float()
    ours = RegionLoss(regions=regions, classes=logits.shape[1], dice=True)(logits[:, :3], labels)
    expected = monai.DiceLoss(sigmoid=True, batch=True)(logits[:, :3], truth)
    expected = expected + F.binary_cross_entropy_with_logits(logits[:, :3], truth)
    agree(ours, expected, logits)


@pytest.mark.parametrize(
    ("error", "oracle"),
    [("mse", F.mse_loss), ("mae", F.l1_loss), ("smooth_l1", F.smooth_l1_loss)],
)
def test_regression_losses_are_torchs_with_and_without_missing_targets(batch, error, oracle):
    values, _ = batch
    targets = torch.randn(values.shape)
    agree(RegressionLoss(error)(values, targets), oracle(values, targets), values)
    targets[:, :, :2] = float("nan")
    ours = RegressionLoss(error)(values, targets)
    agree(ours, oracle(values[:, :, 2:], targets[:, :, 2:]), values)


def test_a_valid_mask_leaves_targets_out_as_nan_does(batch):
    values, labels = batch
    targets = torch.randn(values.shape)
    valid = labels != 0
    loss = RegressionLoss("mse")
    missing = targets.masked_fill(~valid.unsqueeze(1), float("nan"))
    assert torch.equal(loss(values, targets, valid), loss(values, missing))
