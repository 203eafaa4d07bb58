"""The same kernel here and on Dask: rows, refusals and surprises come back alike."""

import sys
from dataclasses import dataclass

import cloudpickle
import distributed
import pytest

from pipeline.errors import CaseError, ExecutionError
from pipeline.execute import ExecuteSettings, run_tasks

SETTINGS = [ExecuteSettings(on="serial"), ExecuteSettings(on="local", workers=2)]


@dataclass(frozen=True)
class Numbered:
    number: int


def kernel(task):
    if task.number == 1:
        raise CaseError("it is one.", "Give another.")
    if task.number == 2:
        raise ZeroDivisionError("two\nlines")
    return task.number * 10


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.on)
def test_one_bad_task_never_stops_the_others(settings):
    # By value and not by import: the workers do not know the tests' folder.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    done = {d.task.number: d for d in run_tasks(kernel, [Numbered(n) for n in range(5)], settings)}
    assert {n: d.row for n, d in done.items()} == {0: 0, 1: None, 2: None, 3: 30, 4: 40}
    assert str(done[1].error) == "it is one. Give another."
    assert "an unexpected error struck: ZeroDivisionError: two lines." in done[2].error.reason
    assert "--debug" in done[2].error.remedy and "ZeroDivisionError" in done[2].trace
    assert done[0].error is None


def test_a_scheduler_that_is_not_there_is_an_error_with_a_way_out(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    settings = ExecuteSettings(on="tcp://127.0.0.1:9")
    with pytest.raises(ExecutionError, match=r"answers at tcp://127.0.0.1:9: start one, or set"):
        list(run_tasks(kernel, [Numbered(0), Numbered(3)], settings))
