"""deploy/compose.yaml: valid, closed to the outside, and complete."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, read_yaml, tool

COMPOSE = read_yaml("compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
ONCE = {"migrate", "register"}
TEXT = (DEPLOY / "compose.yaml").read_text()
EXAMPLE = dict(
    line.split("=", 1)
    for line in (DEPLOY / ".env.example").read_text().splitlines()
    if line and not line.startswith("#")
)
every = pytest.mark.parametrize("name", sorted(SERVICES))


def test_it_follows_the_compose_specification() -> None:
    found = tool(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"
    )
    assert found.returncode == 0, found.stdout


def test_the_check_of_the_specification_can_fail(tmp_path: Any) -> None:
    (tmp_path / "compose.yaml").write_text(TEXT.replace("restart:", "restarts:"))
    found = tool(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / "compose.yaml"
    )
    assert found.returncode == 1


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


@every
def test_a_service_gains_no_rights_and_is_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert not service.get("privileged")
    # Else the image's user, which is 10001.
    assert service.get("user", "10001:10001").split(":")[0] != "0"


@every
def test_a_service_that_stays_says_whether_it_is_healthy_and_has_time_to_end(name: str) -> None:
    service = SERVICES[name]
    if name in ONCE:
        assert service["healthcheck"] == {"disable": True}
        return
    # A worker's is the image's.
    assert name.startswith("worker") or service["healthcheck"]["test"][0] == "CMD"
    assert "stop_grace_period" in service


@every
def test_images_and_variables_have_fixed_versions(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.search(r":\d[\w.]*", image), image
    assert "latest" not in image


def test_every_variable_stands_in_the_example_and_every_line_of_it_is_used() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    # Read by Compose itself.
    assert set(EXAMPLE) - {"COMPOSE_PROFILES"} == used


def test_defaults_are_those_of_the_example() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    assert {name: EXAMPLE[name] for name in defaults} == defaults


def test_secrets_have_no_default_and_no_example() -> None:
    secrets = {name for name in EXAMPLE if name in ("POSTGRES_PASSWORD", "SEGFLOW_AUTH")}
    assert len(secrets) == 2
    for name in secrets:
        assert EXAMPLE[name] == ""
        assert set(re.findall(rf"\$\{{{name}[^}}]*\}}", TEXT)) == {
            f"${{{name}:?set it in deploy/.env}}"
        }


def test_the_database_is_reached_by_the_server_alone_and_has_no_way_out() -> None:
    within = {name for name, s in SERVICES.items() if "database" in s["networks"]}
    assert within == {"postgres", "migrate", "server"}
    assert COMPOSE["networks"]["database"]["internal"] is True


def test_workers_have_shared_memory_for_loaders_and_the_data() -> None:
    for name in ("worker", "worker-gpu"):
        assert SERVICES[name]["shm_size"].endswith(":-2gb}")
        assert SERVICES[name]["volumes"] == ["${SEGFLOW_DATA:-data}:/data"]
    assert SERVICES["dask-worker"]["volumes"] == SERVICES["worker"]["volumes"]


def test_the_gpu_worker_waits_for_its_profile() -> None:
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert EXAMPLE["COMPOSE_PROFILES"] == "cpu"
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_settings_of_the_server_are_settings_that_prefect_knows() -> None:
    from prefect.settings.models.root import Settings
    from prefect.settings.models.server.database import ServerDatabaseSettings
    from prefect.settings.models.server.root import ServerSettings

    def names(model: Any) -> set[str]:
        found = set()
        for name, field in model.model_fields.items():
            prefix = model.model_config["env_prefix"]
            found.add((prefix + name).upper())
            for choice in getattr(field.validation_alias, "choices", []):
                found |= {choice.upper()} if isinstance(choice, str) else set()
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                found |= names(field.annotation)
        return found

    known = names(Settings) | names(ServerSettings) | names(ServerDatabaseSettings)
    used = {
        name
        for service in SERVICES.values()
        for name in service.get("environment", {})
        if name.startswith("PREFECT_")
    }
    assert len(used) > 8
    assert used - known == set()
