"""Progress is thinned to what a log can bear, and refused cases are never dropped."""

from __future__ import annotations

from flows.progress import Thinned

Call = tuple[str, int, int, str]


def told(calls: list[tuple[float, Call]]) -> list[Call]:
    """The calls that pass, of calls at given seconds."""
    passed: list[Call] = []
    seconds = iter([time for time, _ in calls])
    thinned = Thinned(lambda *call: passed.append(call), clock=lambda: next(seconds))
    for _, call in calls:
        thinned(*call)
    return passed


def test_first_and_last_of_a_stage_always_pass() -> None:
    calls = [(0.01 * n, ("ingest", n, 50, "")) for n in range(1, 51)]
    assert [call[1] for call in told(calls)] == [1, 50]


def test_a_quick_stage_passes_once_in_two_seconds() -> None:
    calls = [(1.0 * n, ("predict", n, 20, "")) for n in range(1, 20)]
    assert [call[1] for call in told(calls)] == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]


def test_a_slow_stage_passes_once_per_tenth_or_half_minute() -> None:
    calls = [(10.0 * n, ("train", n, 1000, "")) for n in range(1, 14)]
    assert [call[1] for call in told(calls)] == [1, 4, 7, 10, 13]


def test_a_stage_of_unknown_length_passes_twice_a_minute() -> None:
    calls = [(5.0 * n, ("train", n, 0, "")) for n in range(1, 14)]
    assert [call[1] for call in told(calls)] == [1, 7, 13]


def test_every_refused_case_passes() -> None:
    calls = [(0.0, ("ingest", n, 9, f"c{n}: quarantined, torn")) for n in range(1, 9)]
    assert len(told(calls)) == 8


def test_a_new_stage_passes_at_once() -> None:
    assert len(told([(0.0, ("plan", 1, 1, "")), (0.0, ("patch", 1, 9, ""))])) == 2
