"""One loss at several resolutions, as MONAI weighs and samples it."""

import pytest
import torch
from monai.losses import DeepSupervisionLoss
from torch.nn import functional as F

from models.losses import CrossEntropyLoss, DeepSupervision, DiceCELoss, RegressionLoss
from models.losses.deep_supervision import nearest


@pytest.fixture(params=[(16, 12), (8, 12, 8), (9, 11)], ids=["2d", "3d", "odd"])
def heads(request):
    """Give logits at three resolutions, finest first, and labels of the finest."""
    torch.manual_seed(0)
    sizes = [tuple(-(-n // step) for n in request.param) for step in (1, 2, 4)]
    logits = [torch.randn(2, 3, *size, requires_grad=True) for size in sizes]
    return logits, torch.randint(3, (2, *request.param))


def test_it_is_monais_divided_by_the_sum_of_weights(heads):
    logits, labels = heads

    def cross_entropy(logits, labels):
        return F.cross_entropy(logits, labels.squeeze(1).long())

    oracle = DeepSupervisionLoss(cross_entropy)
    oracle.interp_mode = "nearest"
    expected = oracle(logits, labels.unsqueeze(1).float()) / 1.75
    ours = DeepSupervision(CrossEntropyLoss())(logits, labels)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)  # float32 rounding


def test_one_head_is_the_loss_itself_as_list_or_tensor(heads):
    (finest, *_), labels = heads
    loss = DiceCELoss(background=False)
    wrapped = DeepSupervision(loss)
    assert torch.equal(wrapped([finest], labels), loss(finest, labels))
    assert torch.equal(wrapped(finest, labels), loss(finest, labels))


def test_labels_are_taken_and_never_mixed():
    labels = torch.tensor([0, 255, 2, 255, 1, 0, 255, 255], dtype=torch.uint8)
    coarse = nearest(labels.expand(1, 8, 8), (4, 4))
    assert coarse.dtype == torch.uint8
    assert coarse[0, 0].tolist() == [0, 2, 1, 255]


@pytest.mark.parametrize("size", [(3, 5), (5, 7), (10, 13), (1, 1)])
def test_nearest_is_torchs(size):
    values = torch.arange(130.0).view(1, 1, 10, 13)
    torch.testing.assert_close(nearest(values, size), F.interpolate(values, size, mode="nearest"))


def test_voxel_weights_are_brought_along(heads):
    logits, labels = heads
    loss = DeepSupervision(CrossEntropyLoss())
    twice = loss(logits, labels, torch.full(labels.shape, 2.0))
    torch.testing.assert_close(twice, 2 * loss(logits, labels))


def test_targets_with_a_channel_axis_are_too():
    targets = torch.randn(1, 1, 8, 8)
    heads = [targets.clone(), targets[..., ::2, ::2].clone()]
    assert DeepSupervision(RegressionLoss("mse"))(heads, targets).item() == 0


def test_no_head_is_an_error():
    with pytest.raises(ValueError, match="there are no logits: give those of one head"):
        DeepSupervision(CrossEntropyLoss())([], torch.zeros(1, 2, 2).long())
