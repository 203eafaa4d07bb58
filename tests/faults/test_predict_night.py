"""Prediction at night: whatever dies, the same command gives the same bytes, and it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import tree
from tests.stages import predicted
from tests.trained import small_plan, write_model

LARGE, SMALL = (100, 130, 140), (18, 26, 30)  # 2 x 3 x 3 pieces, and one
PIECES, MASKS = 18 + 3, 4
LIMIT_S = 120

PREDICT = """
import json, sys
from pathlib import Path
job = json.loads(sys.argv[1])
data, out = Path(job["data"]), Path(job["out"])
out.mkdir(exist_ok=True)

def note(moment):
    with (out / "moments").open("a") as file:
        print(moment, file=file)

note("imports")
import pipeline.predict.tasks
from pipeline.execute import ExecuteSettings
from pipeline.predict import PredictSettings, predict
pipeline.predict.tasks.TASK_VOXELS = 100_000  # else it is too little for Dask
note("begin")
predict(
    PredictSettings(tile=job["tile"]),
    ExecuteSettings(**job["execute"]),
    run_name="test",
    model=data / "best.pt",
    manifest=data / "manifest.jsonl",
    quarantine=out / "quarantine.jsonl",
    volumes=data / "volumes",
    output=out / "masks",
    ledger=out / "ledger",
    progress=lambda *_: note("pieces"),
)
note("end")
"""

IMPATIENT = """
import distributed
wait_for_workers = distributed.Client.wait_for_workers
distributed.Client.wait_for_workers = lambda client, *_, **__: wait_for_workers(client, 1, 1)
"""

TASKS = """
import json, os, signal, sys, time
from pipeline.execute import ExecuteSettings, run_tasks
job = json.loads(sys.argv[1])

def kernel(task):
    with open(job["log"], "a") as file:
        print(task, file=file)
    if task == job["poison"]:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return task * 10

settings = ExecuteSettings(on="local", workers=job["workers"])
for done in run_tasks(kernel, range(job["tasks"]), settings):
    print(json.dumps([done.task, done.row, done.error and str(done.error)]), flush=True)
"""


class Night:
    """A folder of volumes and a model, and the processes that predict them."""

    def __init__(self, folder: Path, tile: int) -> None:
        self.folder = folder
        self.tile = (tile,) * 3
        self._started: list[subprocess.Popen] = []

    def launch(self, name: str, *command: str) -> subprocess.Popen:
        """Start a command as a group of its own; what it prints goes to ``<name>.log``."""
        # Dask hands its settings on to children, also those of workers of earlier tests.
        handed = {k: v for k, v in os.environ.items() if not k.startswith("DASK_INTERNAL")}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                env={**handed, "SEGFLOW_TEST": str(self.folder)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def start(self, name: str, before: str = "", **execute) -> subprocess.Popen:
        """Start predicting into a folder."""
        job = {"data": str(self.folder), "out": str(self.folder / name)}
        job |= {"tile": self.tile, "execute": execute}
        return self.launch(name, "-c", before + PREDICT, json.dumps(job))

    def undisturbed(self) -> None:
        """Predict here and now, serially: what all other runs have to give."""
        predicted(self.folder, self.folder / "best.pt", tile=self.tile)

    def run_tasks(self, name: str, workers: int, tasks: int, poison: int | None = None):
        """Start small tasks, each of which notes in ``<name>.begun`` that it begins."""
        job = {"workers": workers, "tasks": tasks, "poison": poison}
        job |= {"log": str(self.folder / f"{name}.begun")}
        return self.launch(name, "-c", TASKS, json.dumps(job))

    def rows(self, name: str) -> dict[int, tuple[int | None, str | None]]:
        """Rows and errors of the small tasks that have ended."""
        lines = [line for line in self.printed(name).splitlines() if line.startswith("[")]
        return {task: (row, error) for task, row, error in map(json.loads, lines)}

    def finish(self, name: str, **execute) -> float:
        """Predict to the end; give the seconds it took."""
        started = time.monotonic()
        assert self.start(name, **execute).wait(LIMIT_S) == 0, self.printed(name)
        return time.monotonic() - started

    def scheduler(self) -> str:
        """Start a Dask scheduler; give its address."""
        file = self.folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.launch(
            "scheduler", "-m", "distributed.cli.dask_scheduler", *options, "--scheduler-file", file
        )
        wait_until(file.exists, lambda: self.printed("scheduler"))
        return json.loads(file.read_text())["address"]

    def killed_at(self, moment_s: float, name: str, alone: bool, **execute) -> float | None:
        """Kill a run at a moment; where it ends before, give the seconds it took.

        Args:
            moment_s: Seconds since its start.
            name: The run.
            alone: Its workers are left to find out for themselves.
            execute: Where it runs.
        """
        started = time.monotonic()
        process = self.start(name, **execute)
        try:
            assert process.wait(moment_s) == 0, self.printed(name)
            return time.monotonic() - started
        except subprocess.TimeoutExpired:
            (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
            process.wait(LIMIT_S)
            return None

    def state(self, name: str) -> str:
        """How far the masks of a run are."""
        masks = self.folder / name / "masks"
        if any(masks.glob("*/.*.partial")):
            return "masks begun"
        return "all masks published" if any(masks.glob("*/*.zarr")) else "no mask begun"

    def printed(self, name: str) -> str:
        """What the runs of a name have printed."""
        return (self.folder / f"{name}.log").read_text()

    def moments(self, name: str) -> list[str]:
        """What the runs of a name have gone through."""
        path = self.folder / name / "moments"
        return path.read_text().split() if path.exists() else []

    def done(self, name: str) -> int:
        """Pieces in a run's ledger."""
        records = (self.folder / name / "ledger").rglob("*.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in records)

    def wrong(self, name: str) -> list[str]:
        """Files and folders in which a run's masks differ from the undisturbed ones."""
        return differences(self.folder / name / "masks", self.folder / "predictions")

    def wrong_published(self, name: str) -> list[str]:
        """The same, of the masks that stand under their names."""
        stores = (self.folder / name / "masks").glob("*/[!.]*.zarr")
        of = self.folder / "predictions"
        return [w for s in stores for w in differences(s, of / s.parent.name / s.name)]

    def alive(self) -> dict[int, str]:
        """Commands of the living processes that were started here, by pid."""
        mark = f"SEGFLOW_TEST={self.folder}\0".encode()
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                ours = mark in (place / "environ").read_bytes()
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
                if ours and state != "Z":
                    found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
            except OSError:  # it has ended
                continue
        return found

    def workers(self) -> list[int]:
        """Process ids of the local Dask workers."""
        return [pid for pid, command in self.alive().items() if "spawn_main" in command]

    def end(self) -> None:
        """Kill whatever is left."""
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait(LIMIT_S)


def differences(one: Path, other: Path) -> list[str]:
    """Files of different bytes, and files and folders that only one of two folders has."""
    first, second = tree(one), tree(other)
    folders = [{p.relative_to(f).as_posix() for p in f.rglob("*")} for f in (one, other)]
    changed = {name for name in first.keys() & second.keys() if first[name] != second[name]}
    return sorted(changed | (folders[0] ^ folders[1]))


def wait_until(ready: Callable[[], object], told: Callable[[], str], limit_s: float = LIMIT_S):
    """Wait for something to be so."""
    until = time.monotonic() + limit_s
    while not ready():
        assert time.monotonic() < until, told()
        time.sleep(0.005)


@pytest.fixture
def night(make_msd, write_scan, take_in, tmp_path):
    """Give a function that makes a night; nothing of it outlives the test."""
    nights = []

    def make(tile: int = 32, norm: str = "batch", large: tuple[int, ...] = LARGE) -> Night:
        data = make_msd(tmp_path / "data", cases=MASKS, shape=SMALL[::-1])
        random = np.random.default_rng(7)
        image = random.normal(100, 20, large[::-1]).astype(np.float32)
        write_scan(tmp_path / "data/imagesTr/liver_1.nii.gz", image)
        labels = random.integers(0, 3, image.shape, dtype=np.uint8)
        write_scan(tmp_path / "data/labelsTr/liver_1.nii.gz", labels)
        take_in(data, tmp_path)
        write_model(tmp_path, small_plan(3, norm=norm))
        nights.append(Night(tmp_path, tile))
        return nights[-1]

    yield make
    for made in nights:
        made.end()


@pytest.fixture
def bare(tmp_path):
    """A night without volumes."""
    made = Night(tmp_path, 0)
    yield made
    made.end()


@pytest.mark.slow
def test_a_prediction_killed_three_times_among_its_pieces_ends_with_the_same_bytes(night):
    made = night(tile=64)
    made.undisturbed()
    random = np.random.default_rng(0)
    for _ in range(3):
        more = made.done("killed") + int(random.integers(2, PIECES // 3))
        process = made.start("killed", on="serial")
        wait_until(lambda: made.done("killed") >= more, lambda: made.printed("killed"))  # noqa: B023
        time.sleep(random.uniform(0, 0.03))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(LIMIT_S) == -signal.SIGKILL, "it ended before it could be killed"
        assert made.wrong_published("killed") == []
    assert made.done("killed") < PIECES
    made.finish("killed", on="serial")
    assert made.wrong("killed") == []
    assert made.moments("killed").count("pieces") <= PIECES + 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("execute", [{"on": "serial"}, {"on": "local", "workers": 2}], ids=str)
def test_twenty_kills_at_random_moments_change_no_byte(night, execute):
    made, kills = night(tile=24), 20
    made.undisturbed()
    seconds = made.finish("timed", **execute)
    random = np.random.default_rng(20)
    # One in each twentieth of a run.
    moments = random.permutation((np.arange(kills) + random.random(kills)) / kills)
    hit: Counter[str] = Counter()
    nights = 0
    for number, moment in enumerate(moments):
        name = f"killed-{nights}"
        while ended := made.killed_at(moment * seconds, name, alone=number % 2 == 0, **execute):
            # After earlier kills little was left to do; or the machine has become faster.
            assert made.wrong(name) == [], dict(hit)
            if made.moments(name).count("begin") == 1:
                seconds, moment = min(seconds, ended), 0.98 * moment
            nights += 1
            name = f"killed-{nights}"
        hit[made.state(name)] += 1
        assert made.wrong_published(name) == [], dict(hit)
        if made.state(name) == "all masks published":
            made.finish(name, **execute)
            assert made.wrong(name) == [], dict(hit)
            nights += 1
    name = f"killed-{nights}"
    made.finish(name, **execute)
    print(f"the kills met {dict(hit)}; {nights + 1} runs got to their end")
    assert made.wrong(name) == [], dict(hit)
    assert hit["masks begun"] >= 3, f"too few kills met a mask that was begun: {dict(hit)}"
    wait_until(lambda: not made.alive(), lambda: str(made.alive()), limit_s=30)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_one_two_and_four_workers_write_the_bytes_of_none(night, norm):
    made = night(norm=norm, large=(40, 70, 130))  # 6 pieces
    made.undisturbed()
    for workers in (1, 2, 4):
        name = f"workers-{workers}"
        made.finish(name, on="local", workers=workers)
        assert made.wrong(name) == []
        assert made.alive() == {}
    record = json.loads((made.folder / "ledger/predict.json").read_text())
    assert record["blend"] == ("exact" if norm == "batch" else "gaussian")


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [0, PIECES // 2])
def test_a_killed_worker_is_replaced_and_no_byte_changes(night, pieces):
    made = night(tile=24)
    made.undisturbed()
    process = made.start("killed", on="local", workers=2)
    wait_until(lambda: made.done("killed") > pieces, lambda: made.printed("killed"))
    os.kill(made.workers()[0], signal.SIGKILL)
    assert made.done("killed") < PIECES
    assert process.wait(LIMIT_S) == 0, made.printed("killed")
    assert made.wrong("killed") == []
    assert made.alive() == {}


@pytest.mark.slow
def test_workers_of_a_scheduler_write_the_same_bytes(night):
    made = night()
    address = made.scheduler()
    limits = ("--nthreads", "1", "--nworkers", "2", "--no-dashboard", "--host", "127.0.0.1")
    made.launch("workers", "-m", "distributed.cli.dask_worker", address, *limits)
    made.undisturbed()
    made.finish("cluster", on=address)
    assert made.wrong("cluster") == []  # by them: without workers there is an error, as below


def test_a_scheduler_without_workers_is_an_error_with_a_way_out(night):
    made = night()
    address = made.scheduler()
    assert made.start("alone", IMPATIENT, on=address).wait(LIMIT_S) == 1
    told = f"ExecutionError: no Dask scheduler with workers answers at {address}: start one"
    assert told in made.printed("alone")


def test_a_task_that_kills_its_workers_fails_alone(bare):
    process = bare.run_tasks("poisoned", workers=2, tasks=12, poison=3)
    assert process.wait(LIMIT_S) == 0, bare.printed("poisoned")
    rows = bare.rows("poisoned")
    row, error = rows.pop(3)
    assert row is None and error
    assert rows == {task: (task * 10, None) for task in range(12) if task != 3}
    wait_until(lambda: not bare.alive(), lambda: str(bare.alive()), limit_s=30)


def test_what_a_killed_worker_has_told_is_not_done_again(bare):
    process = bare.run_tasks("told", workers=2, tasks=30)
    wait_until(lambda: len(bare.rows("told")) >= 12, lambda: bare.printed("told"))
    told = bare.rows("told")
    os.kill(bare.workers()[0], signal.SIGKILL)
    assert process.wait(LIMIT_S) == 0, bare.printed("told")
    begun = Counter(map(int, (bare.folder / "told.begun").read_text().split()))
    assert set(begun) == set(range(30)) == set(bare.rows("told"))
    assert [task for task in told if begun[task] > 1] == []


@pytest.mark.slow
def test_the_only_worker_may_die_more_than_once(bare, monkeypatch):
    # Dask gives a worker up that is not back after this time, 15 s, as one that dies twice within
    # 15 s is not; without a worker the others would be waited for without end.
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "100ms")
    process = bare.run_tasks("lost", workers=1, tasks=20)
    wait_until(lambda: len(bare.rows("lost")) >= 5, lambda: bare.printed("lost"))
    os.kill(bare.workers()[0], signal.SIGKILL)
    assert process.wait(40) == 0, bare.printed("lost")
    assert len(bare.rows("lost")) == 20
