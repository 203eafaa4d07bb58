"""`segflow run` as a person starts it: in a process of its own, with no Prefect server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import zarr

from tests.flows.discs import CASES, REPOSITORY, Segflow


def test_run_then_status_then_predict(alone: Segflow, segflow: Segflow, discs: Path) -> None:
    run = discs.parent / "run"
    found = alone("run", discs)
    assert found.err == ""
    assert found.last == f"complete: {CASES} cases; report {run}/report/index.html"
    assert found.code == 0
    assert "│ disc  │ " in found.out

    status = segflow("status", discs)
    assert (status.code, status.last) == (0, found.last)

    foreseen = segflow("predict", discs, "--dry-run", "--json")
    assert foreseen.code == 0 and "nothing written, 0 cases to predict" in foreseen.out
    outlook = json.loads(foreseen.out)["outlook"]
    assert (outlook["cases"], outlook["done"], outlook["tiles"]) == (0, CASES, 0)
    foreseen = segflow("predict", discs, "--dry-run", "--set", "predict.precision=float16")
    assert foreseen.last == f"complete: nothing written, {CASES} cases to predict"
    assert f"{CASES} to predict, 0 up to date" in foreseen.out

    new = discs.parent / "data" / "images"
    output = discs.parent / "masks"
    predicted = segflow(
        "predict", discs, "--input", new / "disc_0.png", new / "disc_1.png", "--output", output
    )
    assert (predicted.code, predicted.last) == (0, f"complete: 2 masks in {output}")
    mask = zarr.open_array(output / "disc_1.zarr" / "0" / "mask", mode="r")
    assert mask.shape == (64, 64)

    (new / "torn.png").write_bytes((new / "disc_0.png").read_bytes()[:100])
    predicted = segflow("predict", discs, "--input", new / "torn.png")
    assert predicted.code == 1
    assert predicted.last.startswith("failed: 1 input refused, no mask made; torn: ")


def test_a_failing_run_shows_one_sentence(alone: Segflow, discs: Path) -> None:
    for mask in (discs.parent / "data" / "masks").iterdir():
        mask.unlink()
    found = alone("run", discs, "--json")
    assert found.code == 1
    assert found.err.splitlines()[-1].startswith("failed: all 8 cases are unusable")
    assert "Traceback" not in found.err
    assert json.loads(found.out)["status"] == "failed"


def test_the_temporary_server_ends_with_its_owner(prefect_home: str) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
        text=True,
    )
    assert server.stdout is not None
    assert int(server.stdout.readline()) > 0
    server.communicate(timeout=60)  # closes its standard input
    assert server.returncode == 0
