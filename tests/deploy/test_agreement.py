"""What several files of deploy/ say must be the same in all, and nothing may be of one machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import steps
from tests.deploy.files import DEPLOY, REPOSITORY, read_all_yaml, read_yaml

FILES = sorted(
    path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts
)
# Where somebody fills in secrets; git does not take them.
FILES = [path for path in FILES if path.name not in (".env", "secrets.env")]
README = (DEPLOY / "README.md").read_text()
POOL = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"][0]["work_pool"][
    "name"
]


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("single-machine.sh", r"POOL=(\S+)"),
        ("register.sh", r"POOL=(\S+)"),
        ("Dockerfile", r'"--pool", "([^"]+)"'),
        ("Dockerfile.cuda", r'"--pool", "([^"]+)"'),
        ("systemd/segflow-worker.service", r"--pool (\S+)"),
        ("kubernetes/worker.yaml", r"- --pool\n\s+- (\S+)"),
    ],
)
def test_workers_wait_at_the_pool_of_the_deployments(name: str, said: str) -> None:
    assert set(re.findall(said, text(name))) == {POOL}


def test_every_deployment_goes_to_that_pool() -> None:
    described = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    assert {each["work_pool"]["name"] for each in described} == {POOL}


def test_the_limit_on_gpus_is_the_one_that_flows_ask_for() -> None:
    assert re.findall(r"LIMIT=(\S+)", text("register.sh")) == [steps.GPU_LIMIT]
    assert steps.GPU_LIMIT in README


@pytest.mark.parametrize(
    "name", ["single-machine.sh", "Dockerfile", "Dockerfile.cuda", "systemd/segflow.env.example"]
)
def test_nothing_calls_home(name: str) -> None:
    assert re.search(r"\bDO_NOT_TRACK=1\b", text(name))
    assert re.search(r"\bPREFECT_SERVER_ANALYTICS_ENABLED=false\b", text(name))
    assert re.search(r"\bPREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false\b", text(name))


def test_no_server_lets_pages_of_others_use_its_api() -> None:
    for name in ("single-machine.sh", "systemd/segflow.env.example", "compose.yaml"):
        (origins,) = re.findall(r"PREFECT_SERVER_CORS_ALLOWED_ORIGINS[=:] ?(\S+)", text(name))
        assert "*" not in origins
        assert origins.startswith("http://")
    assert "PREFECT_SERVER_CORS_ALLOWED_ORIGINS" in text("kubernetes/server.yaml")


def test_one_version_of_the_database_and_of_the_image_everywhere() -> None:
    images = {
        each["name"]: each["newTag"]
        for each in read_yaml("kubernetes/kustomization.yaml")["images"]
    }
    compose = read_yaml("compose.yaml")["services"]
    assert compose["postgres"]["image"] == f"postgres:{images['postgres']}"
    assert f"SEGFLOW_IMAGE=segflow:{images['segflow']}\n" in text(".env.example")
    assert f"SEGFLOW_CUDA_IMAGE=segflow:{images['segflow']}-cuda\n" in text(".env.example")
    assert f"-t segflow:{images['segflow']} ." in text("Dockerfile")


def test_one_version_of_the_kubernetes_worker_everywhere() -> None:
    said = {
        found
        for path in FILES
        for found in re.findall(r"prefect-kubernetes==([\d.]+)", path.read_text())
    }
    assert len(said) == 1


def test_dask_workers_everywhere_have_one_thread_as_the_local_ones() -> None:
    services = read_yaml("compose.yaml")["services"]
    (dask,) = [
        o for o in read_all_yaml("kubernetes/dask.yaml") if o["metadata"]["name"] == "dask-worker"
    ]
    commands: list[Any] = [
        services["dask-worker"]["command"],
        dask["spec"]["template"]["spec"]["containers"][0]["args"],
        text("single-machine.sh").split(),
        text("slurm/dask.sbatch").split(),
        text("systemd/segflow-dask-worker.service").split(),
    ]
    for words in commands:
        assert words[words.index("--nthreads") + 1] == "1"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_a_file_is_of_no_particular_machine(path: Path) -> None:
    said = path.read_text()
    assert not re.findall(r"/work/|/opt/pypi|/root/|/tmp/wt|file://", said)
    assert not re.findall(r":latest\b", said)
    # The one address of a package index that stands here is the one that pytorch.org names.
    indexes = re.findall(r"index-url[= ](\S+)", said)
    assert set(indexes) <= {"https://download.pytorch.org/whl/cpu"}


def test_the_readme_names_every_way_and_every_automation() -> None:
    for name in (
        "single-machine.sh",
        "register.sh",
        "compose.yaml",
        "systemd/",
        "kubernetes/",
        "slurm/",
    ):
        assert name in README
    assert all(a["name"] in README for a in read_yaml("automations.yaml")["automations"])


def test_files_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"deploy/[\w./-]*[\w]", README)) - {"deploy/.env"}
    # Filled in by whoever runs it.
    named -= {"deploy/kubernetes/secrets.env"}
    assert len(named) > 10
    assert [
        name for name in sorted(named) if not (REPOSITORY / name).exists() and "*" not in name
    ] == []


def test_commands_of_segflow_that_the_readme_names_exist() -> None:
    from typer.main import get_command

    from flows.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"(?<!-u )segflow ([a-z]+)(?= [A-Z]| runs/| /|`| --)", README))
    assert len(named) > 4
    assert named <= known


def test_names_of_runs_that_the_readme_explains_are_made_by_the_flows() -> None:
    flows = "\n".join(path.read_text() for path in (REPOSITORY / "flows").glob("*.py"))
    for words in ("stepped aside", "nothing new", "kept the former model", "quarantined"):
        assert words in README
        assert words in flows
