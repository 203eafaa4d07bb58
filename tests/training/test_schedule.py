import pytest

from pipeline.training import TrainSettings
from pipeline.training.distributed import Ranks
from pipeline.training.schedule import (
    MEASURED_STEPS,
    WARM_STEPS,
    Budget,
    learning_rate_share,
    validation_due,
)

ALONE = Ranks(0, 1, "cpu")


@pytest.mark.parametrize("total", [1, 3, 40, 1000])
def test_the_rate_rises_to_its_highest_and_falls_towards_zero(total):
    rates = [learning_rate_share(step, total, TrainSettings()) for step in range(total)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == 1.0
    assert min(rates) > 0


@pytest.mark.parametrize(("total", "validations"), [(10, 3), (7, 7), (100, 8), (5, 9)])
def test_validations_are_as_many_as_asked_and_the_last_step_has_one(total, validations):
    due = [s for s in range(1, total + 1) if validation_due(s, total, validations)]
    assert len(due) == min(total, validations)
    assert due[-1] == total


def test_a_limit_of_steps_is_known_at_once_and_does_not_depend_on_time():
    budget = Budget(TrainSettings(max_minutes=None, max_steps=30), None, 0.0)
    assert budget.total_steps == 30
    for step in range(1, 30):
        budget.stepped(step, ALONE)
    assert budget.total_steps == 30


def test_minutes_become_steps_once_the_pace_is_known(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pipeline.training.schedule.time.monotonic", lambda: now[0])
    budget = Budget(TrainSettings(max_minutes=1.0), None, 0.0)
    for step in range(1, 1 + WARM_STEPS + MEASURED_STEPS):
        assert budget.total_steps is None
        now[0] += 0.5
        budget.stepped(step, ALONE)
    now[0] += 0.5
    budget.stepped(step + 1, ALONE)
    assert budget.total_steps == pytest.approx(120, abs=1)


def test_a_validation_that_takes_long_leaves_fewer_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pipeline.training.schedule.time.monotonic", lambda: now[0])
    budget = Budget(TrainSettings(max_minutes=1.0, validations=4), None, 0.0)
    for step in range(1, 31):
        now[0] += 0.5
        budget.stepped(step, ALONE)
    with budget.validating(30, ALONE):
        now[0] += 10.0
    left_s = 60 - now[0] - 3 * 10.0
    assert budget.total_steps == pytest.approx(30 + left_s / 0.5, abs=2)


def test_fewer_steps_than_the_pace_needs_are_kept_to():
    budget = Budget(TrainSettings(max_minutes=30.0, max_steps=5), None, 0.0)
    for step in range(1, 6):
        assert budget.total_steps is None
        budget.stepped(step, ALONE)
    assert budget.total_steps == 5
    assert budget.validation_due(5)


def test_an_interrupted_training_keeps_its_number_of_steps():
    assert Budget(TrainSettings(max_minutes=10.0), 77, 100.0).total_steps == 77
