"""A regression from `segflow init` to the report and to new images, as a person starts it."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from flows.summary import markdown
from pipeline.io.files import read_json
from pipeline.run import load_settings
from tests.flows.discs import Segflow
from tests.regression.heights import make_heights, scene

pytestmark = pytest.mark.usefixtures("prefect_server")

SMALL = {
    "run_dir": "run",
    "plan.processor": "cpu",
    "plan.patch_shape": "[32,32]",
    "plan.base_features": "4",
    "plan.stages": "3",
    "train.max_minutes": "null",
    "train.max_steps": "4",
    "train.validations": "1",
    "train.loader_workers": "0",
    "execute.on": "serial",
}
SET = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
STAGES = ("ingest", "plan", "patch", "train", "predict", "score", "report")


@pytest.fixture
def data(tmp_path: Path, write_scene, segflow: Segflow) -> Path:
    """A dataset, and beside it the run.yaml that `segflow init` makes of it."""
    make_heights(tmp_path / "data", write_scene, cases=8)
    assert segflow("init", "data", "-o", "run.yaml").code == 0
    return tmp_path / "data"


def test_one_command_runs_it_and_again_does_nothing_and_new_images_are_predicted(
    data: Path, write_scene, times, segflow: Segflow
):
    folder = data.parent / "run"
    found = segflow("run", "run.yaml", *SET)
    assert (found.code, found.err) == (0, "")
    assert found.last == "complete: 8 cases; report run/report/index.html"
    speaks_of_numbers(found.out, folder)
    speaks_of_numbers_when_asked(segflow, folder)
    masks_hold_numbers(folder)

    before = times(folder)
    again = segflow("run", "run.yaml", *SET)
    assert (again.code, again.err) == (0, "")
    assert ended_lines(again.out) == ended_lines(found.out)
    changed = {path for path, time in times(folder).items() if before.get(path) != time}
    assert changed <= {".", ".lock"} and before.keys() == times(folder).keys()

    bands, _ = scene(9, (96, 112))
    new = write_scene(data.parent / "new" / "tile_9.tif", bands, nodata=0)
    known = data / "images" / "tile_0.tif"
    found = segflow("predict", "run.yaml", *SET, "--input", new, known, "--output", "masks")
    assert (found.code, found.last) == (0, "complete: 2 masks in masks")
    values, attributes = mask_of(data.parent / "masks" / "tile_9.zarr")
    assert attributes["target"] == "heights" and attributes["status"] == "complete"
    np.testing.assert_array_equal(np.isnan(values), (bands == 0).all(axis=0))
    own, _ = mask_of(min(folder.glob("predictions/*/tile_0.zarr")))
    np.testing.assert_array_equal(mask_of(data.parent / "masks" / "tile_0.zarr")[0], own)


def ended_lines(out: str) -> list[str]:
    """What each stage said at its end, in order."""
    return [line for line in out.splitlines() if line.split(": ")[0] in STAGES]


def mask_of(store: Path) -> tuple[np.ndarray, dict]:
    """Numbers and attributes of a mask."""
    group = zarr.open_group(store, mode="r")
    return group["0/mask"][:], group.attrs["segflow"]


def headline(scores: dict) -> str:
    return f"mean absolute error {scores['mean']['mae']:.4g}, R² {scores['mean']['r2']:.4f}"


def speaks_of_numbers(out: str, folder: Path) -> None:
    """What `segflow run` prints, and what it leaves for people."""
    scores = read_json(folder / "scores.json")
    assert [line.split(": ")[0] for line in ended_lines(out)] == list(STAGES)
    assert f"score: {headline(scores)}" in out
    assert "validation R²" in out and "│ heights │ " in out
    table = markdown(load_settings(folder / "run.yaml").dir, "score")
    assert "| target | MAE |" in table and f"| {scores['mean']['r2']:.4f} |" in table
    page = (folder / "report" / "index.html").read_text()
    assert "mean absolute error of heights over 2 held-out cases" in page
    assert "validation MAE" in page and "training: validation R²" in page
    assert "<td>smooth_l1</td>" in page
    assert not any("Dice" in said for said in (out, table, page))


def speaks_of_numbers_when_asked(segflow: Segflow, folder: Path) -> None:
    """What `segflow status` and `segflow score --json` say of the run."""
    scores = read_json(folder / "scores.json")
    status = segflow("status", "run.yaml", *SET).out
    assert headline(scores) in " ".join(status.split())
    assert "validation R²" in status and "Dice" not in status
    shown = json.loads(segflow("score", "run.yaml", *SET, "--json").out)["scores"]
    assert shown == {"mean": scores["mean"], "targets": scores["targets"]}


def masks_hold_numbers(folder: Path) -> None:
    """Where the image has data there is a number, whether or not there is a truth."""
    for number in (0, 1):
        values, attributes = mask_of(min(folder.glob(f"predictions/*/tile_{number}.zarr")))
        assert values.dtype == np.float32 and attributes["target"] == "heights"
        unseen = (scene(number, values.shape)[0] == 0).all(axis=0)
        assert unseen.any() == (number == 0)
        np.testing.assert_array_equal(np.isnan(values), unseen)
