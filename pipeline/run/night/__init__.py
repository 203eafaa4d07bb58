"""The night of a dataset."""

from pipeline.run.night.record import Night, Refused
from pipeline.run.night.steps import (
    STEPS,
    Step,
    begin_night,
    end_night,
    fail_night,
    run_night,
    step_line,
    steps_left,
)

__all__ = [
    "STEPS",
    "Night",
    "Refused",
    "Step",
    "begin_night",
    "end_night",
    "fail_night",
    "run_night",
    "step_line",
    "steps_left",
]
