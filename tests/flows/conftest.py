"""A tiny dataset, and the command line as a person meets it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.flows.discs import CASES, REPOSITORY, Ended, Segflow, draw_pair, settings_of

# Prefect and Dask read these when they are imported, which no test does before this file is.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DASK_LOGGING__DISTRIBUTED"] = "error"


def pytest_configure(config: pytest.Config) -> None:
    """Let pass what Prefect leaves to the garbage collector, in whichever test that comes by."""
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket.socket:ResourceWarning")
    config.addinivalue_line("filterwarnings", "ignore:unclosed transport:ResourceWarning")
    config.addinivalue_line("filterwarnings", "ignore:unclosed event loop:ResourceWarning")


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """run.yaml of a run on eight good pairs."""
    for number in range(CASES):
        draw_pair(tmp_path / "data", f"disc_{number}", number)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings_of(tmp_path / "data", tmp_path / "run")))
    return path


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """``--debug`` sets the level of a process, which ends with the command but not here."""
    logger = logging.getLogger("pipeline")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture
def segflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Segflow:
    """The command line in this process, in an empty folder."""
    from flows.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["segflow", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def alone(tmp_path: Path) -> Segflow:
    """The command line in a process of its own, without a Prefect server, in an empty folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(REPOSITORY)}

    def run(*arguments: str | Path) -> Ended:
        command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
        found = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        return Ended(found.returncode, found.stdout, found.stderr)

    return run


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of the tests' own for Prefect, set before Prefect is imported."""
    home = str(tmp_path_factory.mktemp("prefect"))
    os.environ["PREFECT_HOME"] = home
    return home


@pytest.fixture(scope="session")
def prefect_server(prefect_home: str) -> Iterator[None]:
    """A Prefect server of the tests' own."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # Without heartbeats a flow ends a second sooner.
    quick = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=120), quick:
        yield
