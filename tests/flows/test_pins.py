"""Versions with which Prefect's server starts and its schedules fire: PLATFORM.md, section 0."""

from __future__ import annotations

import importlib
from importlib.metadata import version

import pytest


@pytest.mark.parametrize(("package", "bound"), [("sqlalchemy", (2, 1)), ("fastapi", (0, 151))])
def test_installed_version_is_below_the_one_that_breaks_prefect(
    package: str, bound: tuple[int, int]
) -> None:
    met = tuple(int(part) for part in version(package).split(".")[:2])
    assert met < bound


@pytest.mark.usefixtures("prefect_home")
def test_prefects_server_can_be_imported() -> None:
    assert importlib.import_module("prefect.server.api.server").create_app
