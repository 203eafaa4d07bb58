"""Dockerfiles: linted, small in what they take, and of the versions that the tests passed with."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, REPOSITORY, tool

DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.cuda"]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
each = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def instructions(dockerfile: Path) -> list[str]:
    """Its instructions, continued lines joined, without comments."""
    lines = [x for x in dockerfile.read_text().splitlines() if not x.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [line for line in joined.splitlines() if line]


@each
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    found = tool("hadolint", dockerfile)
    assert found.returncode == 0, found.stdout


def test_the_two_differ_in_nothing_but_torch_and_the_driver() -> None:
    cpu, cuda = (set(instructions(path)) for path in DOCKERFILES)
    assert all("torch" in step or "NVIDIA" in step or "ENV PATH" in step for step in cpu ^ cuda)
    assert len(cpu ^ cuda) == 4


@each
def test_the_image_runs_as_a_user_without_rights(dockerfile: Path) -> None:
    users = [x.split()[1] for x in instructions(dockerfile) if x.startswith("USER ")]
    assert users[-1] == "10001:10001"


@each
def test_the_base_is_a_fixed_version_of_the_python_that_is_tested(dockerfile: Path) -> None:
    (base,) = re.findall(r"ARG PYTHON=python:(3\.\d+)\.\d+-\S+", dockerfile.read_text())
    makefile = (REPOSITORY / "Makefile").read_text()
    assert f"PYTHON ?= python{base}\n" in makefile
    assert PROJECT["project"]["requires-python"] == f">={base}"
    stages = [x for x in instructions(dockerfile) if x.startswith("FROM ")]
    assert stages == ["FROM ${PYTHON} AS build", "FROM ${PYTHON}"]


@each
def test_everything_is_installed_in_the_versions_of_constraints(dockerfile: Path) -> None:
    installs = [
        found
        for step in instructions(dockerfile)
        for found in re.findall("pip install [^&]*", step)
    ]
    assert len(installs) == 4
    for install in installs:
        # Torch for CPUs is named by its line of constraints.txt; segflow itself has no version.
        exact = "-c constraints.txt" in install or "grep '^torch=='" in install
        assert exact or install.split() == ["pip", "install", "--no-deps", "."]
    pinned = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert len([line for line in pinned if re.match("^torch==", line)]) == 1


@each
def test_the_dependencies_it_reads_are_those_of_pyproject(dockerfile: Path) -> None:
    (code,) = re.findall(r'python -c "(import tomllib.*?)"', dockerfile.read_text())
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == PROJECT["project"]["dependencies"]


@each
def test_what_is_copied_exists_and_passes_the_ignore_file(dockerfile: Path) -> None:
    copied = [
        source
        for step in instructions(dockerfile)
        if step.startswith("COPY ") and "--from" not in step
        for source in step.split()[1:-1]
    ]
    ignore = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text().splitlines()
    passed = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert set(copied) == passed
    assert all((REPOSITORY / source).exists() for source in copied)


@each
def test_every_package_of_the_project_is_copied(dockerfile: Path) -> None:
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    steps = instructions(dockerfile)
    assert [p for p in packages if f"COPY {p.rstrip('*')} {p.rstrip('*')}" not in steps] == []


@each
def test_the_image_is_healthy_while_its_worker_asks_for_work(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    (command,) = [x for x in steps if x.startswith("CMD ")]
    (health,) = [x for x in steps if x.startswith("HEALTHCHECK ")]
    assert '"--with-healthcheck"' in command
    assert "127.0.0.1:8080/health" in health
