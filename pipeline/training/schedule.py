"""How many steps fit the budget, and how fast to learn at each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from models.optimisers import OneCycleSchedule, learning_rate_factor
from pipeline.training.distributed import Ranks
from pipeline.training.settings import TrainSettings

WARM_STEPS, MEASURED_STEPS = 4, 16
"""Steps that fill caches, and steps after them by which the pace is measured."""


def learning_rate_share(step: int, total_steps: int | None, settings: TrainSettings) -> float:
    """Give the learning rate of a step as a share of its highest: warm-up, then the schedule.

    Args:
        step: Step about to be taken, from 0.
        total_steps: Steps of the training; None while not known, which is in its first steps.
        settings: Warm-up and schedule.

    Example:
        >>> [round(learning_rate_share(step, 1000, TrainSettings()), 3) for step in (0, 40, 1000)]
        [0.025, 1.0, 0.0]
    """
    warmup = 0 if isinstance(settings.schedule, OneCycleSchedule) else settings.warmup_steps
    if total_steps is None:
        share = 0.0
    else:
        warmup = min(warmup, total_steps // 5)
        share = min(1.0, max(0, step - warmup) / max(1, total_steps - warmup))
    if step < warmup:
        return (step + 1) / warmup
    return learning_rate_factor(settings.schedule, share)


class Budget:
    """Turns minutes into steps, and says when to validate and to save.

    With a limit of steps alone nothing depends on time. With a limit of minutes the pace of the
    first steps decides how many fit; that number changes again only if a validation finds the
    training more than a tenth off its time.

    Args:
        settings: Limits.
        total_steps: Steps decided before an interruption; None at a fresh start.
        elapsed_s: Seconds trained before it.
    """

    def __init__(self, settings: TrainSettings, total_steps: int | None, elapsed_s: float) -> None:
        self._settings = settings
        self._started = self._saved = time.monotonic()
        self._before_s = elapsed_s
        self._first_step: int | None = None
        self._measured_from_s = 0.0
        self._measured_from_step = 0
        self._step_s = 0.0
        self._validation_s = 0.0
        self.total_steps = total_steps or (None if settings.max_minutes else settings.max_steps)

    @property
    def elapsed_s(self) -> float:
        """Seconds trained, before an interruption included."""
        return self._before_s + time.monotonic() - self._started

    @property
    def step_s(self) -> float:
        """Seconds of a step, measured since the last validation; 0 while not known."""
        return self._step_s

    def stepped(self, step: int, ranks: Ranks) -> None:
        """Take note of a step; the pace is known after the first few."""
        if self._first_step is None:
            self._first_step = step
        if step - self._first_step == WARM_STEPS:
            self._measure_from(step)
        measured = step - self._measured_from_step
        if self._measured_from_step and measured >= MEASURED_STEPS:
            self._step_s = (self.elapsed_s - self._measured_from_s) / measured
            if self.total_steps is None:
                self.total_steps = ranks.agree(self._fitting(step))
        if self.total_steps is None and step == self._settings.max_steps:
            self.total_steps = step

    def _measure_from(self, step: int) -> None:
        self._measured_from_step, self._measured_from_s = step, self.elapsed_s

    def _fitting(self, step: int) -> int:
        assert self._settings.max_minutes is not None
        done = 0 if not self.total_steps else step * self._settings.validations // self.total_steps
        validations_s = (self._settings.validations - done) * self._validation_s
        left_s = self._settings.max_minutes * 60 - self.elapsed_s - validations_s
        fitting = step + max(1, int(left_s / self._step_s))
        return min(fitting, self._settings.max_steps or fitting)

    def validation_due(self, step: int) -> bool:
        """Whether a validation follows this step."""
        if self.total_steps is None:
            return False
        return validation_due(step, self.total_steps, self._settings.validations)

    @contextmanager
    def validating(self, step: int, ranks: Ranks) -> Iterator[None]:
        """Time a validation, and see afterwards whether the steps still fit."""
        before_s = self.elapsed_s
        yield
        self._validation_s = self.elapsed_s - before_s
        self._measure_from(step)
        timed = self._settings.max_minutes is not None and self._step_s > 0
        if timed and self.total_steps is not None and step < self.total_steps:
            fitting = ranks.agree(self._fitting(step))
            if abs(fitting - self.total_steps) > 0.1 * self.total_steps:
                self.total_steps = fitting

    def checkpoint_due(self, step: int) -> bool:
        """Whether the state should be saved after this step: in time, and at the end."""
        now = time.monotonic()
        late = now - self._saved > self._settings.checkpoint_minutes * 60
        if late or step == self.total_steps:
            self._saved = now
            return True
        return False


def validation_due(step: int, total_steps: int, validations: int) -> bool:
    """Whether a validation follows this step (counted from 1); the last step always has one.

    Example:
        >>> [s for s in range(1, 11) if validation_due(s, 10, 3)]
        [4, 7, 10]
    """
    return step * validations // total_steps > (step - 1) * validations // total_steps
