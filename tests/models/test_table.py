"""Each network in two and three dimensions takes a step with each loss, and is stored and compiled.

``python -m tests.models.table`` prints the same as a table.
"""

from typing import get_args

import pytest
import torch

from models.losses import LossSettings
from tests.models.compiling import compiled_as_eager
from tests.models.networks import LARGE_3D, SMALL, rows
from tests.models.table import (
    CASES,
    LOSSES,
    PUBLISHED,
    Row,
    compiles,
    odd_size,
    reloads,
    row,
    steps,
)

# Half a second and more for each step.
LARGE = ("resnet", "resnext", "densenet", "efficientnet", "resnet instance", "unet-2015")
ONE_OF_EACH_HEAD = ("dice_ce", "bce of regions", "mse")
CHEAP_3D = [name for name in SMALL if name not in LARGE_3D]
PRESETS_2D = [(name, 2) for name in PUBLISHED]
LIGHT = [name for name in SMALL if name not in LARGE]
EVERY_CASE = [
    *rows(LIGHT, 2, 3),
    pytest.param("unet-small", 2),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case[0] in LARGE),
]


def test_no_kind_of_loss_is_forgotten_here():
    assert {type(loss) for loss in LOSSES.values()} == set(get_args(get_args(LossSettings)[0]))


@pytest.mark.parametrize(("name", "ndim"), EVERY_CASE)
def test_a_step_with_every_loss_teaches_every_weight(name, ndim):
    taken = steps(name, ndim)
    assert taken == dict.fromkeys(((loss, low) for loss in LOSSES for low in (False, True)), "")


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_networks_too_with_a_loss_of_each_kind_of_head(name):
    losses = ("ce with border",) if name in PUBLISHED else ONE_OF_EACH_HEAD
    assert not any(steps(name, 2, losses).values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_refuse_odd_sizes_and_are_stored(name):
    assert (
        odd_size(name, 2)
        == {
            "unet-2015": "33 x 33 refused: 188 x 188",
            "unet-small": "33 x 33 refused: 32 x 32 or 48 x 48",
        }[name]
    )
    assert reloads(name, 2)


def test_training_and_prediction_are_traced_in_one_piece():
    assert compiles("unet", 2, "aot_eager") == "traces"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ndim"), [*rows(SMALL, 2), *rows(CHEAP_3D, 3), *PRESETS_2D])
def test_every_network_is_traced_in_one_piece(name, ndim):
    assert compiles(name, ndim, "aot_eager") == "traces"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ndim"), [*rows(SMALL, 2), *PRESETS_2D])
def test_compiled_it_predicts_and_learns_the_same(name, ndim):
    assert compiles(name, ndim) == "yes"


def test_what_does_not_compile_says_why():
    class Asks(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    said = compiled_as_eager(Asks(1, 1, 1), torch.randn(1, 1, 4, 4), "aot_eager")
    assert said.startswith("no: Unsupported: Data-dependent branching")


def test_the_table_says_what_failed():
    found = Row("unet", 2, {("ce", False): "", ("ce", True): "the loss is nan"}, "fits", False, "?")
    assert found.cells() == ["unet", "2-D", "1 of 1", "fits", "0 of 1", "?", "DIFFERS"]


def test_a_row_holds_all_that_a_network_did():
    found = row("unet", 2)
    assert found.cells()[2:5] == ["13 of 13", "33 x 33 refused: 32 x 32 or 36 x 36", "13 of 13"]
    assert found.cells()[5:] == ["not tried", "bit-equal"]
