"""Settings say which loss, and refuse what cannot be meant."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import models.losses as losses
from models.losses import (
    BCESettings,
    ClDiceSettings,
    CrossEntropyLoss,
    CrossEntropySettings,
    DiceCELoss,
    DiceCESettings,
    MAESettings,
    RegionLoss,
    RegressionLoss,
    TverskySettings,
    activation,
    build_loss,
    output_channels,
)

SETTINGS = TypeAdapter(losses.LossSettings)


def build(settings, classes=3, background=False):
    return build_loss(settings, classes=classes, background=background, ignore_index=255)


@pytest.mark.parametrize(
    "kind",
    ["ce", "dice", "dice_ce", "dice_focal", "tversky", "bce", "cldice", "mse", "mae", "smooth_l1"],
)
def test_a_kind_alone_is_enough_and_survives_json(kind):
    settings = SETTINGS.validate_python({"kind": kind})
    assert SETTINGS.validate_json(SETTINGS.dump_json(settings)) == settings
    assert isinstance(build(settings), torch.nn.Module)


def test_fields_reach_the_loss():
    assert build(DiceCESettings(smooth=0.5)).smooth == 0.5
    assert build(TverskySettings(false_positives=0.1)).false_positives == 0.1
    assert build(ClDiceSettings(share=0.2, iterations=7)).iterations == 7
    assert build(CrossEntropySettings(class_weights=(1, 2, 3))).class_weights.tolist() == [1, 2, 3]
    assert build(DiceCESettings(), background=True).background is True
    assert build_loss(
        DiceCESettings(), classes=300, background=True, ignore_index=65535
    ).ignore_index == 65535  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (CrossEntropySettings(), CrossEntropyLoss),
        (DiceCESettings(), DiceCELoss),
        (BCESettings(), RegionLoss),
        (MAESettings(), RegressionLoss),
    ],
)
def test_each_kind_builds_its_own(settings, kind):
    assert type(build(settings)) is kind


@pytest.mark.parametrize(
    ("settings", "name", "channels"),
    [
        (DiceCESettings(), "softmax", 3),
        (BCESettings(), "sigmoid", 2),
        (BCESettings(regions=((1, 2), (2,), (1,), (0,))), "sigmoid", 4),
    ],
)
def test_a_loss_says_what_head_it_needs(settings, name, channels):
    assert activation(settings) == name
    assert output_channels(settings, classes=3, background=False) == channels


def test_without_a_background_every_class_has_its_sigmoid():
    assert output_channels(BCESettings(), classes=3, background=True) == 3


def test_regression_has_a_linear_head():
    assert activation(MAESettings()) == "linear"
    assert output_channels(MAESettings(), classes=1, background=True) == 1


def test_unknown_fields_and_kinds_are_refused():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        SETTINGS.validate_python({"kind": "dice", "gamma": 2})
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        SETTINGS.validate_python({"kind": "lovasz"})
    with pytest.raises(ValidationError, match="frozen"):
        DiceCESettings().smooth = 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "dice", "smooth": 0},
        {"kind": "ce", "class_weights": [1, -1]},
        {"kind": "ce", "border": {"sigma": 0}},
        {"kind": "bce", "regions": []},
        {"kind": "bce", "regions": [[]]},
        {"kind": "bce", "regions": [[-1]]},
        {"kind": "cldice", "share": 1.1},
        {"kind": "smooth_l1", "beta": 0},
    ],
)
def test_numbers_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        SETTINGS.validate_python(wrong)


def test_class_weights_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match="class_weights has 2 numbers for 3 classes"):
        build(CrossEntropySettings(class_weights=(1, 2)))
    with pytest.raises(ValueError, match="there are 2 class weights for 3 classes"):
        CrossEntropyLoss(class_weights=(1, 2))(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2).long())


def test_a_region_must_be_made_of_classes():
    with pytest.raises(ValueError, match=r"region \(1, 3\) is no union of classes 0 to 2"):
        build(BCESettings(regions=((1, 3),)))


def test_a_sigmoid_head_must_have_a_channel_for_each_region():
    with pytest.raises(ValueError, match="logits have 3 channels for 2 regions"):
        build(BCESettings())(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2).long())


def test_weights_must_lie_on_the_labels():
    labels = torch.zeros(1, 2, 2).long()
    with pytest.raises(ValueError, match=r"weights have shape \(1, 1, 2, 2\), labels \(1, 2, 2\)"):
        CrossEntropyLoss()(torch.zeros(1, 3, 2, 2), labels, torch.ones(1, 1, 2, 2))


def test_targets_must_match_what_the_network_gives():
    loss, values = RegressionLoss("mse"), torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="targets have shape .* channel axis included"):
        loss(values, torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="targets are torch.int64: give them in a float dtype"):
        loss(values, values.long())
    with pytest.raises(ValueError, match="valid has shape .* without a channel axis"):
        loss(values, values, values.bool())


def test_every_public_name_is_there():
    assert all(hasattr(losses, name) for name in losses.__all__)
