"""A tiny dataset, and the command line as a person meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
SIDE = 64
CASES = 8

# Prefect reads these when it is imported, which no test does before this file is.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

Segflow = Callable[..., subprocess.CompletedProcess[str]]


def draw_pair(folder: Path, case: str, seed: int) -> None:
    """A noisy picture with a bright disc, and the disc's mask: values 0 and 255."""
    random = np.random.default_rng(seed)
    centre, radius = random.uniform(20, 44, size=2), random.uniform(8, 16)
    y, x = np.ogrid[:SIDE, :SIDE]
    disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    picture = (disc * 120 + random.normal(60, 15, (SIDE, SIDE))).clip(0, 255)
    for kind, pixels in (("images", picture), ("masks", disc * 255)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{case}.png")


def settings_of(root: Path, run: Path) -> dict[str, Any]:
    """Settings of a run on such pictures that takes seconds."""
    return {
        "name": "discs",
        "run_dir": str(run),
        "data": {
            "root": str(root),
            "layout": "pairs",
            "classes": [
                {"name": "ground", "values": [0], "background": True},
                {"name": "disc", "values": [255]},
            ],
        },
        "plan": {"patch_shape": [32, 32], "base_features": 4, "stages": 2, "batch_size": 2},
        "patch": {"per_case": 2},
        "train": {"max_minutes": None, "max_steps": 4, "validations": 1, "loader_workers": 0},
        "execute": {"on": "serial"},
    }


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """run.yaml of a run on eight good pairs."""
    for number in range(CASES):
        draw_pair(tmp_path / "data", f"disc_{number}", number)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings_of(tmp_path / "data", tmp_path / "run")))
    return path


@pytest.fixture
def segflow(tmp_path: Path) -> Segflow:
    """The command line in a process of its own, in an empty folder; gives exit code and output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "COLUMNS": "100"}

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *map(str, arguments)],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(REPOSITORY)} | variables,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of the tests' own, in a home of their own."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # Without heartbeats a flow ends a second sooner.
    quick = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=120), quick:
        yield
