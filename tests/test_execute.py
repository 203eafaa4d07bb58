"""The same kernel here and on Dask: rows, refusals and surprises come back alike."""

import sys
import threading
import time
from dataclasses import dataclass

import cloudpickle
import distributed
import pytest

from pipeline.errors import CaseError, ExecutionError
from pipeline.execute import ExecuteSettings, run_tasks, unexpected

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


def test_two_tasks_in_hand_are_two_at_a_time_and_come_in_order():
    serial = ExecuteSettings(on="serial")
    at_work, most = [], []

    def met(task):
        at_work.append(task)
        most.append(len(at_work))
        together.wait(10)  # breaks where only one is at work
        at_work.remove(task)
        return kernel(task)

    together = threading.Barrier(2)
    tasks = [Numbered(n) for n in range(6)]
    done = list(run_tasks(met, tasks, serial, in_hand=2))
    assert [d.row for d in done] == [0, None, None, 30, 40, 50]
    assert str(done[1].error) == "it is one. Give another." and max(most) == 2
    # Told to stop, it begins no other.
    begun = []

    def kept(task):
        begun.append(task.number)
        return task.number

    rows = run_tasks(kept, tasks, serial, in_hand=2)
    assert next(rows).row == 0
    rows.close()
    assert set(begun) <= {0, 1, 2}


def test_a_thread_that_hangs_is_given_up_and_what_ended_is_kept():
    serial = ExecuteSettings(on="serial", timeout_minutes=0.005)
    never = threading.Event()

    def hang(task):
        if task.number == 2:
            never.wait(60)
        return task.number

    found = list(run_tasks(hang, [Numbered(n) for n in range(5)], serial, in_hand=2))
    never.set()
    assert [d.row for d in found] == [0, 1, None, None, None]
    assert "no task ended in 0.005 minutes: a worker hangs" in found[2].error.reason
    assert "execute.timeout_minutes" in found[4].error.remedy


def test_what_ends_a_process_ends_the_run_from_a_thread_too():
    def leave(task):
        raise SystemExit(task.number)

    serial = ExecuteSettings(on="serial")
    with pytest.raises(SystemExit):
        list(run_tasks(leave, [Numbered(n) for n in range(3)], serial, in_hand=2))


def where(task):
    return task.number, distributed.get_worker().name


def test_tasks_for_a_gpu_run_on_the_workers_that_offer_one():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    workers = {
        name: {"cls": distributed.Nanny, "options": {"nthreads": 1, "name": name, **offered}}
        for name, offered in {"plain": {}, "gpu": {"resources": {"GPU": 1}}}.items()
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"port": 0, "dashboard": False}}
    tasks = [Numbered(n) for n in range(6)]
    with distributed.SpecCluster(workers, scheduler) as cluster:
        settings = ExecuteSettings(on=cluster.scheduler_address)
        rows = [d.row for d in run_tasks(where, tasks, settings, on_gpu=True)]
        assert sorted(rows) == [(n, "gpu") for n in range(6)]
        assert len(list(run_tasks(where, tasks, settings))) == 6
    plain = {"plain": workers["plain"]}
    with distributed.SpecCluster(plain, scheduler) as cluster:
        settings = ExecuteSettings(on=cluster.scheduler_address)
        rows = [d.row for d in run_tasks(where, tasks, settings, on_gpu=True)]
        assert sorted(rows) == [(n, "plain") for n in range(6)]


def take_a_second(task):
    time.sleep(1)
    return task.number


def test_a_client_whose_scheduler_went_holds_up_no_other():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    tasks, local = [Numbered(n) for n in range(8)], ExecuteSettings(on="local", workers=2)
    assert len(list(run_tasks(where, tasks, local))) == 8
    scheduler = {"cls": distributed.Scheduler, "options": {"port": 0, "dashboard": False}}
    with distributed.SpecCluster({}, scheduler) as cluster:
        other = distributed.Client(cluster.scheduler_address, timeout="2s")
    with other:  # made last, it is Dask's default, and gives up while the tasks run
        assert sorted(d.row for d in run_tasks(take_a_second, tasks, local)) == list(range(8))
        assert other.status == "closed"


def test_a_full_disk_is_a_sentence():
    error = unexpected(OSError(28, "No space left on device", "/masks/a.zarr"))
    assert error.reason == "the disk is full (/masks/a.zarr)."
    assert "Make room, then run the same command again" in error.remedy


def hanging(task):
    if task.number == 1:
        time.sleep(3600)
    return task.number


def test_a_worker_that_hangs_is_given_up_and_what_ended_is_kept():
    settings = ExecuteSettings(on="local", workers=2, timeout_minutes=0.1)
    started = time.monotonic()
    done = list(run_tasks(hanging, [Numbered(n) for n in range(4)], settings))
    assert time.monotonic() - started < 100
    rows = {d.task.number: d for d in done}
    assert [rows[n].row for n in (0, 2, 3)] == [0, 2, 3]
    assert rows[1].error.reason.startswith("no task ended in 0.1 minutes: a worker hangs")
    # Its process is gone, and the workers take tasks again.
    again = list(run_tasks(hanging, [Numbered(n) for n in (2, 3)], settings))
    assert sorted(d.row for d in again) == [2, 3]


class FragileError(Exception):
    """As rasterio's: it cannot be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("not me")


def refuse_with_a_cause(task: int) -> int:
    try:
        raise FragileError("torn")
    except FragileError as error:
        raise CaseError("it is torn.", "Copy it anew.") from error


def test_a_refusal_leaves_a_worker_without_the_exception_of_a_library() -> None:
    (done,) = run_tasks(refuse_with_a_cause, [1], ExecuteSettings(on="serial"))
    assert done.error is not None and str(done.error) == "it is torn. Copy it anew."
    assert done.error.__cause__ is None
    assert "FragileError: torn" in done.trace
