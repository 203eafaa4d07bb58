import itertools

import pytest
import torch

from models import Decision
from models.losses import BCESettings, DiceCESettings, MSESettings

BRATS = BCESettings(regions=((1, 2, 3), (2, 3), (3,)))


def most_likely(logits, regions, classes):
    """The class of the highest likelihood, regions being independent, by multiplying out."""
    inside = logits.double().sigmoid()
    likelihood = torch.stack(
        [
            torch.stack(
                [p if number in r else 1 - p for p, r in zip(inside, regions, strict=True)]
            ).prod(dim=0)
            for number in range(classes)
        ]
    )
    return likelihood.argmax(dim=0)


@pytest.mark.parametrize(
    ("loss", "classes"), [(BRATS, 4), (BCESettings(), 3), (BCESettings(regions=((1,), (1, 2))), 3)]
)
def test_regions_become_the_class_that_is_most_likely(loss, classes):
    decide = Decision.of(loss, classes=classes, background=False)
    regions = loss.regions or tuple((n,) for n in range(1, classes))
    torch.manual_seed(0)
    logits = torch.randn(len(regions), 40, 50) * 3
    assert torch.equal(decide(logits), most_likely(logits, regions, classes))


def test_regions_without_overlap_are_the_most_probable_one_above_one_half():
    decide = Decision.of(BCESettings(), classes=3, background=False)
    logits = torch.tensor([[-1.0, 2.0, 0.5, -0.1], [-2.0, 1.0, 0.6, 0.1]])
    assert decide(logits).tolist() == [0, 1, 2, 2]


def test_nested_regions_that_are_all_inside_or_all_outside_are_what_one_would_say():
    decide = Decision.of(BRATS, classes=4, background=False)
    for inside in itertools.accumulate([(1,), (1,), (1,)]):
        logits = torch.full((3, 1), -5.0)
        logits[: len(inside)] = 5.0
        assert decide(logits).item() == len(inside)
    assert decide(torch.full((3, 1), -5.0)).item() == 0


def test_classes_that_no_region_tells_apart_are_refused():
    alike = BCESettings(regions=((1, 2),))
    with pytest.raises(ValueError, match="classes 1 and 2 belong to the same regions"):
        Decision.of(alike, classes=3, background=False)
    with pytest.raises(ValueError, match="classes 0 and 3"):
        Decision.of(BCESettings(regions=((1,), (2,))), classes=4, background=False)


def test_values_get_their_own_scale_back_and_classes_the_largest():
    values = Decision.of(MSESettings(), classes=1, background=True, mean=10, std=4)
    assert values(torch.tensor([[0.0, 1.0, -2.0]])).tolist() == [10.0, 14.0, 2.0]
    softmax = Decision.of(DiceCESettings(), classes=2, background=False)
    assert softmax(torch.tensor([[0.0, 1.0], [0.5, 0.5]])).tolist() == [1, 0]


@pytest.mark.parametrize("loss", [BRATS, DiceCESettings(), MSESettings()])
def test_what_is_decided_is_largest_of_a_linear_map(loss):
    """So that the average of logits may be decided on."""
    decide = Decision.of(loss, classes=4, background=False)
    torch.manual_seed(0)
    one, other = torch.randn(2, 3 if loss is BRATS else 4, 30)
    torch.testing.assert_close(
        decide.scores(one + other), decide.scores(one) + decide.scores(other)
    )
