"""A real server, a real worker, offline: datasets are registered, run, scheduled, killed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.io.files import read_json, read_jsonl
from tests.flows.discs import CASES, REPOSITORY, settings_of
from tests.flows.served import Prefect, served, until
from tests.nights.conftest import Dataset, dataset, make_dataset, template

__all__ = ["dataset", "make_dataset", "template"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NEW_DATASET = "segment/new-dataset"
HUGE = 1536
"""Sides of a picture that takes long enough to be killed over."""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """Server and worker, the project's deployments registered."""
    with served(tmp_path_factory.mktemp("served")) as found:
        deployed = found("deploy", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        yield found


@pytest.fixture
def working(prefect: Prefect) -> Prefect:
    """The same, the worker alive whatever a test before has done to it."""
    if "worker" not in prefect.processes:
        prefect.start_worker()
    return prefect


def parameters(settings: dict[str, Any], **changes: Any) -> str:
    """A flow's parameters for a run, some settings changed."""
    return json.dumps({"settings": settings | changes})


def written(dataset: Dataset) -> Path:
    """run.yaml of a dataset."""
    path = dataset.folder / "run.yaml"
    path.write_text(yaml.safe_dump(dataset.settings.model_dump(mode="json")))
    return path


def test_a_new_dataset_is_run_and_cancelled(working: Prefect, discs: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(discs.read_text())
    run = ("deployment", "run", NEW_DATASET)
    done = working(*run, "--params", "-", "--watch", given=parameters(settings))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "report" / "index.html").exists()
    assert working.runs(NEW_DATASET) == [("COMPLETED", "Completed")]

    # Wrong settings are refused before a run is made.
    wrong = working(*run, "--params", parameters(settings, train={"max_steps": 0}))
    assert wrong.returncode == 1
    assert "settings.train.max_steps" in wrong.stdout + wrong.stderr

    # A cancelled run takes its training processes with it.
    long = parameters(settings, run_dir=str(tmp_path / "long"), train={"max_minutes": 10})
    working(*run, "--params", long)
    log = tmp_path / "long" / "checkpoints" / "log.jsonl"
    until(lambda: log.exists() and log.stat().st_size > 0, 180)
    now = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    (running,) = working.ask("flow_runs/filter", now)
    assert working("flow-run", "cancel", running["id"]).returncode == 0
    until(lambda: working.runs(NEW_DATASET)[0] == ("CANCELLED", "Cancelled"), 60)
    until(lambda: not grows(log), 60)


def test_nights_fire_by_themselves_and_do_exactly_what_came(
    working: Prefect, dataset: Dataset
) -> None:
    deployed = working.segflow("deploy", written(dataset), "--cron", "* * * * *")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert deployed.stdout.splitlines()[-1] == "complete: nightly/discs registered"
    until(lambda: ("COMPLETED", "Completed") in working.runs("nightly/discs"), 180)
    before = dataset.masks()
    assert len(before) == CASES

    # Registered anew without a schedule: what follows is asked for by hand.
    assert working.segflow("deploy", written(dataset)).returncode == 0
    until(lambda: all(kind != "RUNNING" for kind, _ in working.runs("nightly/discs")), 60)
    for number in range(3):
        dataset.draw(f"new_{number}", 100 + number)
    dataset.draw("torn", 99)
    dataset.tear("torn")
    done = working("deployment", "run", "nightly/discs", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert working.runs("nightly/discs")[0] == ("COMPLETED", "Completed")
    index = read_json(dataset.run.published / "current" / "index.json")
    assert index["added"] == ["new_0", "new_1", "new_2"] and index["changed"] == []
    night = read_jsonl(dataset.run.nights)[-1]
    assert [row["case"] for row in night["quarantined"]] == ["torn"]
    assert dataset.masks().items() >= before.items()


def test_of_two_nights_that_start_together_one_does_the_work(
    working: Prefect, dataset: Dataset
) -> None:
    named = written(dataset)
    named.write_text(named.read_text().replace("name: discs", "name: twice"))
    assert working.segflow("deploy", named).returncode == 0
    for _ in range(2):
        assert working("deployment", "run", "nightly/twice").returncode == 0
    # The other is cancelled where the two meet, and finds nothing new where it came after all.
    ended = {"COMPLETED", "CANCELLED"}
    until(lambda: len([k for k, _ in working.runs("nightly/twice") if k in ended]) == 2, 180)
    assert "COMPLETED" in {kind for kind, _ in working.runs("nightly/twice")}
    assert len(dataset.masks()) == CASES
    states = [row["state"] for row in read_jsonl(dataset.run.nights)]
    assert states in (["published"], ["published", "nothing new"])


def test_a_night_killed_while_it_predicts_ends_with_the_same_bytes(
    working: Prefect, dataset: Dataset, tmp_path: Path
) -> None:
    for number in range(3):
        huge(dataset.image(f"huge_{number}"), number)
    twin = Dataset(tmp_path / "twin", {})
    shutil.copytree(dataset.folder, twin.folder)
    undisturbed = working.segflow("nightly", written(twin))
    assert undisturbed.returncode == 0, undisturbed.stdout + undisturbed.stderr

    named = written(dataset)
    assert working.segflow("deploy", named).returncode == 0
    assert working("deployment", "run", "nightly/discs").returncode == 0
    progress = dataset.run.ledger / "predict-progress.json"
    until(lambda: progress.exists() and pieces_done(progress) > 0, 120, every_s=0.01)
    working.kill_worker()
    assert not (dataset.run.published / "current").exists()

    again = working.segflow("nightly", named)
    assert again.returncode == 0, again.stdout + again.stderr
    assert dataset.masks() == twin.masks()


def test_a_training_killed_with_its_worker_ends_with_the_same_weights(
    working: Prefect, discs: Path, tmp_path: Path
) -> None:
    train = {"max_minutes": None, "max_steps": 240, "validations": 6, "loader_workers": 0}
    data = discs.parent / "data"
    run = ("deployment", "run", NEW_DATASET, "--params", "-")
    disturbed = parameters(settings_of(data, tmp_path / "disturbed") | {"train": train})
    assert working(*run, given=disturbed).returncode == 0
    log = tmp_path / "disturbed" / "checkpoints" / "log.jsonl"
    until(lambda: log.exists() and len(read_jsonl(log)) > 1, 180, every_s=0.05)
    working.kill_worker()
    assert not (tmp_path / "disturbed" / "scores.json").exists()

    weights = []
    for name in ("disturbed", "whole"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings_of(data, tmp_path / name) | {"train": train}))
        found = working.segflow("run", path, "--until", "train")
        assert found.returncode == 0, found.stdout + found.stderr
        weights.append(read_json(tmp_path / name / "checkpoints" / "best.json")["weights_sha256"])
    assert weights[0] == weights[1]


def huge(path: Path, seed: int) -> None:
    """A picture large enough to be killed over."""
    pixels = np.random.default_rng(seed).integers(0, 255, (HUGE, HUGE), np.uint8)
    Image.fromarray(pixels).save(path)


def pieces_done(progress: Path) -> int:
    """Pieces that a prediction has finished."""
    try:
        return int(read_json(progress)["done"])
    except Exception:  # it is written, or removed, at this very moment
        return 0


def grows(path: Path) -> bool:
    """Whether somebody still writes to a file."""
    before = path.stat().st_size
    time.sleep(5)
    return path.stat().st_size > before


def test_the_projects_own_file_registers_the_demo(working: Prefect) -> None:
    described = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    names = {f"{d['entrypoint'].split('.')[1]}/{d['name']}" for d in described["deployments"]}
    assert names == {NEW_DATASET, "nightly/demo", "retrain/weekly"}
    for name in names:
        assert working("deployment", "inspect", name).returncode == 0
