"""Optimisers are torch's, and the rate follows from the share of training done alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import nn, optim

from models.optimisers import (
    AdamSettings,
    AdamWSettings,
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    OptimiserSettings,
    PolySchedule,
    RMSpropSettings,
    ScheduleSettings,
    SGDSettings,
    build_optimiser,
    learning_rate_factor,
)

OPTIMISERS = [
    (SGDSettings(), optim.SGD, {"momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}),
    (SGDSettings(momentum=0), optim.SGD, {"momentum": 0, "nesterov": False, "weight_decay": 3e-5}),
    (AdamWSettings(), optim.AdamW, {"weight_decay": 1e-4}),
    (AdamSettings(), optim.Adam, {"weight_decay": 0}),
    (RMSpropSettings(momentum=0.9), optim.RMSprop, {"alpha": 0.99, "momentum": 0.9}),
]
SCHEDULES = [PolySchedule(), CosineSchedule(), OneCycleSchedule(), ConstantSchedule()]
shares = st.floats(0, 1)


@pytest.mark.parametrize(("settings", "kind", "options"), OPTIMISERS)
def test_an_optimiser_steps_as_torchs_with_the_same_numbers(settings, kind, options):
    def trained(build):
        torch.manual_seed(0)
        layer = nn.Linear(4, 3)
        optimiser = build(layer.parameters())
        for _ in range(5):
            optimiser.zero_grad()
            layer(torch.randn(8, 4)).square().mean().backward()
            optimiser.step()
        return layer.weight

    ours = trained(lambda parameters: build_optimiser(settings, parameters))
    theirs = trained(lambda parameters: kind(parameters, lr=settings.learning_rate, **options))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("settings", [s for s, *_ in OPTIMISERS] + SCHEDULES, ids=lambda s: s.kind)
def test_settings_survive_json(settings):
    union = ScheduleSettings if settings in SCHEDULES else OptimiserSettings
    adapter = TypeAdapter(union)
    assert adapter.validate_json(adapter.dump_json(settings)) == settings


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValidationError, match="greater than 0"):
        AdamSettings(learning_rate=0)
    with pytest.raises(ValidationError, match="less than 1"):
        SGDSettings(momentum=1)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        AdamWSettings(momentum=0.9)


def torch_rates(build, steps):
    """Rates that a torch scheduler gives, one per step, for a highest rate of 1."""
    optimiser = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = build(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


STEPS = 50


@pytest.mark.parametrize(
    ("schedule", "build", "last"),
    [
        (PolySchedule(), lambda o: optim.lr_scheduler.PolynomialLR(o, STEPS, power=0.9), STEPS),
        (CosineSchedule(), lambda o: optim.lr_scheduler.CosineAnnealingLR(o, STEPS), STEPS),
        (ConstantSchedule(), lambda o: optim.lr_scheduler.ConstantLR(o, factor=1), STEPS),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_schedule_is_torchs(schedule, build, last):
    ours = [learning_rate_factor(schedule, step / last) for step in range(STEPS)]
    assert ours == pytest.approx(torch_rates(build, STEPS), abs=1e-12)


def test_one_cycle_is_torchs():
    def build(optimiser):
        # torch's rise ends at step pct_start * total - 1, and its last step is total - 1.
        return optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=1, total_steps=STEPS + 1, pct_start=16 / 51, cycle_momentum=False
        )

    ours = [learning_rate_factor(OneCycleSchedule(), step / STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(torch_rates(build, STEPS), abs=1e-9)  # torch's float round-off


@given(st.sampled_from(SCHEDULES), shares)
def test_a_factor_lies_between_nothing_and_the_highest(schedule, share):
    assert 0 <= learning_rate_factor(schedule, share) <= 1


@given(st.sampled_from(SCHEDULES), shares, shares)
def test_rates_fall_after_their_peak(schedule, one, other):
    first, second = sorted((one, other))
    if isinstance(schedule, OneCycleSchedule):
        first, second = max(first, 0.3), max(second, 0.3)
    early, late = learning_rate_factor(schedule, first), learning_rate_factor(schedule, second)
    assert early >= late - 1e-12


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
def test_a_share_outside_the_training_is_an_error(share):
    with pytest.raises(ValueError, match="give the part of the training that is done, 0 to 1"):
        learning_rate_factor(CosineSchedule(), share)
