"""Slurm's batch scripts, with stand-ins for Slurm's own commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.training.settings import TrainSettings
from tests.deploy.files import DEPLOY

SRUN = """#!/usr/bin/env bash
# Runs the command once for each node, all on this machine.
while [[ $1 == --* ]]; do shift; done
for ((i = 0; i < SLURM_NNODES; i++)); do SLURM_NODEID=$i "$@" & done
wait
"""
SCONTROL = """#!/usr/bin/env bash
[[ "$1 $2" == "show hostnames" ]] || exit 1
tr ' ' '\\n' <<<"$3"
"""
TOLD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$TOLD"
"""
CLIENT = f"""#!{sys.executable}
import os, sys
from distributed import Client
from distributed.security import Security
from pathlib import Path
from subprocess import run

address = sys.argv[-1].removeprefix("execute.on=")
with Client(address, timeout="30s") as client:
    client.wait_for_workers(4, timeout=60)
    total = sum(client.gather(client.map(abs, range(-3, 0), pure=False)))
stranger = {{k: v for k, v in os.environ.items() if "DASK" not in k}}
code = "from distributed import Client; import sys; Client(sys.argv[1], timeout='5s')"
refused = run([sys.executable, "-c", code, address], env=stranger, capture_output=True).returncode
Path(os.environ["TOLD"]).write_text(f"{{total}} {{refused}} {{' '.join(sys.argv[1:])}}")
"""


def submit(
    script: str, tmp_path: Path, segflow: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a batch script as a job of two nodes would be."""
    programs = {"srun": SRUN, "scontrol": SCONTROL, "venv/bin/segflow": segflow}
    for name, text in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    for name in ("dask", "python"):
        (tmp_path / "bin/venv/bin" / name).symlink_to(Path(sys.executable).parent / name)
    slurm = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node3 node4",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SEGFLOW_VENV": str(tmp_path / "bin" / "venv"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "TOLD": str(tmp_path / "told"),
    }
    return subprocess.run(
        ["bash", str(DEPLOY / "slurm" / script), *arguments],
        env=os.environ | slurm | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_every_node_trains_under_a_number_of_its_own(tmp_path: Path) -> None:
    done = submit("training.sbatch", tmp_path, TOLD, "runs/hippo.yaml", "--set", "train.seed=3")
    assert done.returncode == 0, done.stderr
    lines = sorted((tmp_path / "told").read_text().splitlines())
    assert len(lines) == 2
    for number, line in enumerate(lines):
        assert line.startswith("train runs/hippo.yaml --set train.seed=3 ")
        settings = TrainSettings.model_validate(dict(re.findall(r"train\.(\w+)=(\S+)", line)))
        assert (settings.hosts, settings.host, settings.seed) == (2, number, 3)
        assert settings.meet_at == "node3:24711"


def test_a_training_without_a_run_or_an_environment_says_what_is_missing(tmp_path: Path) -> None:
    nothing = submit("training.sbatch", tmp_path, TOLD)
    assert nothing.returncode != 0
    assert "sbatch training.sbatch RUN.YAML" in nothing.stderr
    (tmp_path / "bin/venv/bin/segflow").unlink()
    nowhere = subprocess.run(
        ["bash", str(DEPLOY / "slurm/training.sbatch"), "run.yaml"],
        env=os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert nowhere.returncode == 2
    assert "set SEGFLOW_VENV" in nowhere.stderr


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_reaches_the_workers_of_its_job_and_no_stranger_does(tmp_path: Path) -> None:
    done = submit("dask.sbatch", tmp_path, CLIENT, "runs/hippo.yaml", "--from", "predict")
    assert done.returncode == 0, done.stderr[-2000:]
    total, refused, *arguments = (tmp_path / "told").read_text().split()
    assert (total, refused) == ("6", "1")
    assert arguments[:4] == ["run", "runs/hippo.yaml", "--from", "predict"]
    assert re.fullmatch(r"execute\.on=tls://.+:\d+", arguments[-1])
    # The certificate's key does not stay behind.
    assert list(tmp_path.glob(".segflow-dask-*")) == []
