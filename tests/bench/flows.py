"""What does Prefect cost, beside the same work as plain functions?

    .venv/bin/python -m tests.bench.flows [--rounds 7] [--out FILE]

Nights and runs are of a tiny dataset that is up to date, so that nearly all is overhead. Prefect's
server is one of the benchmark's own, a process of its own with a new SQLite database, as
``segflow run`` starts it (flows/server.py). Plain and Prefect take turns in one run; figures are
medians over its rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.sides import ROOT, ratio
from tests.bench.training import processor_name
from tests.flows.discs import CASES, draw_pair, settings_of

if TYPE_CHECKING:
    from pipeline.run import RunSettings

TASKS = 20
"""Tasks of a flow whose tasks do nothing."""
UPDATES = 50
"""Updates of an artifact, and lines of a log."""
CALLS = 10_000
"""Calls of Progress in a step that does nothing else."""
TASK_S = 5.0
"""The shortest task that is worth one, by our rule."""
TICK_S = 0.05
"""Of work between two calls of Progress in such a task."""

Work = Callable[[], object]


def seconds(work: Work) -> float:
    """How long a piece of work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(works: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of each piece of work in each round, forwards and backwards; the first is dropped."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name in list(works) if number % 2 == 0 else reversed(works):
            found[name].append(seconds(works[name]))
    return {name: times[1:] for name, times in found.items()}


def against(plain: Work, prefect: Work, tasks: int, rounds: int) -> dict[str, Any]:
    """The same work both ways, and what Prefect adds to it."""
    found = in_turns({"plain": plain, "prefect": prefect}, rounds)
    added = median(b - a for a, b in zip(found["plain"], found["prefect"], strict=True))
    return {
        "tasks": tasks,
        "plain_s": round(median(found["plain"]), 3),
        "prefect_s": round(median(found["prefect"]), 3),
        "added_s": round(added, 3),
        **ratio(found["prefect"], found["plain"]),
    }


def made(folder: Path) -> RunSettings:
    """A run on discs, all of it done, and its night too."""
    from pipeline.run import STAGES, parse_settings, run_stage
    from pipeline.run.night import run_night

    for number in range(CASES):
        draw_pair(folder / "data", f"disc_{number}", number)
    value = settings_of(folder / "data", folder / "run")
    # The network has hardly learnt: its masks drift.
    settings = parse_settings(value | {"drift": {"enabled": False}})
    for stage in STAGES:
        run_stage(stage, settings)
    run_night(settings)
    return settings


def night(settings: RunSettings, rounds: int) -> dict[str, Any]:
    """A night with nothing new."""
    from flows.nightly import nightly
    from pipeline.run.night import run_night

    steps: list[str] = []
    run_night(settings, ended=lambda step, line: steps.append(step))
    return against(lambda: run_night(settings), lambda: nightly(settings), len(steps), rounds)


def segment(settings: RunSettings, rounds: int) -> dict[str, Any]:
    """A run in which all is done already."""
    from flows.segment import segment
    from pipeline.run import STAGES, run_stage

    def plain() -> None:
        for stage in STAGES:
            run_stage(stage, settings)

    return against(plain, lambda: segment(settings), len(STAGES), rounds)


def parts(settings: RunSettings, rounds: int) -> dict[str, Any]:
    """Seconds of a flow, a task, a step, and what a step tells."""
    from prefect import flow, task
    from prefect.artifacts import create_progress_artifact, update_progress_artifact
    from prefect.cache_policies import NO_CACHE
    from prefect.logging import get_run_logger
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.steps import RETRIES, ended, may_pass, step

    ours = task(cache_policy=NO_CACHE, retry_condition_fn=may_pass, **RETRIES)

    @ours
    def bare(settings: RunSettings) -> None:
        pass

    @ours
    def step_task(settings: RunSettings) -> None:
        with step("bench", settings.name) as progress:
            progress("bench", 1, 1, "")
        ended("bench", "done")

    @flow
    def holds(work: Work) -> float:
        return seconds(work)

    def updates() -> None:
        made = create_progress_artifact(0.0, key="bench-updates")
        for number in range(UPDATES):
            update_progress_artifact(made, 100 * number / UPDATES)

    def quiet(times: int) -> list[float]:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            return [seconds(lambda: holds(int)) for _ in range(times + 1)][1:]

    table = {
        "flow_s": median(in_turns({"flow": lambda: holds(int)}, rounds)["flow"]),
        "flow_without_heartbeat_s": median(quiet(rounds)),
    }
    # From inside the flow: with a heartbeat it ends on a whole second.
    inside: dict[str, tuple[int, Work]] = {
        "task_s": (TASKS, lambda: bare(settings)),
        "step_s": (TASKS, lambda: step_task(settings)),
        "artifact_s": (UPDATES, lambda: create_progress_artifact(0.0, key="bench")),
        "artifact_update_s": (1, updates),
        "log_line_s": (UPDATES, lambda: get_run_logger().info("a line")),
    }
    for name, (times, work) in inside.items():
        repeated = lambda times=times, work=work: [work() for _ in range(times)]  # noqa: E731
        holds(work)  # warm
        found = median(holds(repeated) for _ in range(rounds))
        table[name] = found / (UPDATES + 1 if work is updates else times)
    return {name: round(value, 4) for name, value in table.items()}


def progress(settings: RunSettings, rounds: int) -> dict[str, Any]:
    """A step that tells much: as fast as it can, and twenty times a second for five seconds."""
    from flows import steps

    sent: list[str] = []
    calls = ("create_progress_artifact", "update_progress_artifact")
    before = {name: getattr(steps, name) for name in calls}

    def counted(name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            sent.append(name)
            return before[name](*given, **named)

        return call

    def quick(told: Callable[..., None]) -> None:
        for number in range(CALLS):
            told("bench", number + 1, CALLS, "")

    def slow(told: Callable[..., None]) -> None:
        ticks = round(TASK_S / TICK_S)
        for number in range(ticks):
            time.sleep(TICK_S)
            told("bench", number + 1, ticks, "")

    def silent(*_: Any) -> None:
        pass

    for name in calls:
        setattr(steps, name, counted(name))
    try:
        table = {}
        for name, work in (("quick", quick), ("five_seconds", slow)):
            shown = _in_a_step(work, settings.name)
            found: dict[str, list[float]] = {"plain": [], "step": []}
            for _ in range(rounds):
                found["plain"].append(seconds(lambda work=work: work(silent)))
                sent.clear()
                found["step"].append(shown())
            added = median(b - a for a, b in zip(found["plain"], found["step"], strict=True))
            table[name] = {
                "calls": CALLS if work is quick else round(TASK_S / TICK_S),
                "artifact_requests": len(sent),
                "plain_s": round(median(found["plain"]), 4),
                "step_s": round(median(found["step"]), 4),
                "added_s": round(added, 4),
            }
        whole = table["five_seconds"]
        whole["share"] = round(whole["added_s"] / whole["step_s"], 4)
        return table
    finally:
        for name, call in before.items():
            setattr(steps, name, call)


def _in_a_step(work: Callable[[Callable[..., None]], None], name: str) -> Callable[[], float]:
    """Seconds that a step with this work takes as a task, from call to return."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    from flows.steps import RETRIES, ended, may_pass, step

    @task(cache_policy=NO_CACHE, retry_condition_fn=may_pass, **RETRIES)
    def step_task() -> None:
        with step("bench", name) as told:
            work(told)
        ended("bench", "done")

    return flow(lambda: seconds(step_task), name="bench")


def main() -> None:
    """Run all, print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="default: results/flows-DATE.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Prefect reads these when it is imported.
        os.environ["PREFECT_HOME"] = f"{folder}/prefect"
        os.environ.pop("PREFECT_API_URL", None)
        from flows.inprocess import prepare

        prepare(debug=False)
        settings = made(Path(folder))
        from prefect import __version__

        from flows.server import served

        server = served(debug=False)
        begun = time.perf_counter()
        with server:
            result: dict[str, Any] = {
                "date": str(date.today()),
                "processor": processor_name(),
                "machine": platform.machine(),
                "cores": os.cpu_count() or 1,
                "prefect": __version__,
                "rounds": asked.rounds,
                "server_start_s": round(time.perf_counter() - begun, 1),
            }
            for name, part in (
                ("parts", parts),
                ("progress", progress),
                ("night", night),
                ("segment", segment),
            ):
                result[name] = part(settings, asked.rounds)
                print(name, json.dumps(result[name]), flush=True)
    path = asked.out or ROOT / f"tests/bench/results/flows-{date.today()}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
