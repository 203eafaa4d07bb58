"""Kubernetes manifests: valid, restricted, and agreeing with each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.training.settings import TrainSettings
from tests.deploy.files import DEPLOY, read_all_yaml, tool

FOLDER = DEPLOY / "kubernetes"
VERSION = "1.32"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
BY_HAND = {"training.yaml"}
FILES = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS = [(name, each) for name in FILES for each in read_all_yaml(f"kubernetes/{name}")]
TEMPLATE = json.loads((FOLDER / "base-job-template.json").read_text())


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's description, by file and name; that of a run's Job too."""
    for file, each in OBJECTS:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield f"{file}:{each['metadata']['name']}", each["spec"]["template"]["spec"]
    manifest = TEMPLATE["job_configuration"]["job_manifest"]
    yield "base-job-template.json", manifest["spec"]["template"]["spec"]


PODS = dict(pods())
every_pod = pytest.mark.parametrize("name", sorted(PODS))


def validate(*files: Path) -> subprocess.CompletedProcess[str]:
    return tool("kubernetes-validate", "-k", VERSION, "--strict", *files)


def test_manifests_follow_the_schemas_of_kubernetes() -> None:
    found = validate(*(FOLDER / name for name in FILES))
    assert found.returncode == 0, (found.stdout + found.stderr)[:3000]


def test_the_check_of_the_schemas_can_fail(tmp_path: Path) -> None:
    text = (FOLDER / "server.yaml").read_text()
    (tmp_path / "server.yaml").write_text(text.replace("replicas:", "replica:"))
    assert validate(tmp_path / "server.yaml").returncode != 0


def test_the_job_of_a_run_follows_the_schemas_too(tmp_path: Path) -> None:
    job = filled(TEMPLATE["job_configuration"]["job_manifest"])
    # Prefect insists on these two in the pod, where Kubernetes does not know and drops them.
    for name in ("completions", "parallelism"):
        assert job["spec"]["template"]["spec"].pop(name) == 1
    job["metadata"] = {"name": "run", "namespace": "segflow"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    found = validate(tmp_path / "job.yaml")
    assert found.returncode == 0, (found.stdout + found.stderr)[:3000]


def filled(value: Any) -> Any:
    """A template with its variables' defaults, those without one left out, as Prefect does it."""
    if isinstance(value, dict):
        inner = {key: filled(each) for key, each in value.items()}
        return {key: each for key, each in inner.items() if each is not None}
    if isinstance(value, list):
        return [filled(each) for each in value]
    found = re.fullmatch(r"\{\{ (\w+) \}\}", value) if isinstance(value, str) else None
    return TEMPLATE["variables"]["properties"][found[1]].get("default") if found else value


def test_every_variable_of_the_template_is_used_and_every_use_is_a_variable() -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == set(TEMPLATE["variables"]["properties"])


def test_the_kustomization_takes_every_file_but_what_is_applied_by_hand() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == sorted(set(FILES) - BY_HAND)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kustomize_builds_it(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "k")
    example = (FOLDER / "secrets.env.example").read_text()
    (tmp_path / "k" / "secrets.env").write_text(example.replace("=\n", "=x\n"))
    command = ["kubectl", "kustomize", str(tmp_path / "k")]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    objects = list(yaml.safe_load_all(built.stdout))
    namespaces = {o["metadata"].get("namespace") for o in objects if o["kind"] != "Namespace"}
    assert namespaces == {"segflow"}
    assert {"Secret/segflow", "ConfigMap/segflow-job-template"} <= {
        f"{o['kind']}/{o['metadata']['name']}" for o in objects
    }


@every_pod
def test_a_pod_has_no_rights(name: str) -> None:
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
    # Only the worker talks to Kubernetes.
    talks = pod.get("automountServiceAccountToken") is not False
    assert talks is (name == "worker.yaml:worker")


@every_pod
def test_volumes_secrets_and_ports_that_a_pod_names_exist(name: str) -> None:
    pod = PODS[name]
    claims = {
        each["metadata"]["name"] for _, each in OBJECTS if each["kind"] == "PersistentVolumeClaim"
    }
    volumes = {v["name"]: v for v in pod.get("volumes", [])}
    named = {
        v["persistentVolumeClaim"]["claimName"]
        for v in volumes.values()
        if "persistentVolumeClaim" in v
    }
    assert named <= claims
    keys = re.findall(r"^([\w-]+)=", (FOLDER / "secrets.env.example").read_text(), re.M)
    owner = [each for _, each in OBJECTS if each["kind"] == "StatefulSet"]
    templates = {t["metadata"]["name"] for t in owner[0]["spec"]["volumeClaimTemplates"]}
    for container in pod["containers"]:
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted <= volumes.keys() | (templates if name.startswith("postgres") else set())
        for variable in container["env"] if isinstance(container.get("env"), list) else []:
            if "valueFrom" in variable:
                secret = variable["valueFrom"]["secretKeyRef"]
                assert (secret["name"], secret["key"] in keys) == ("segflow", True)
        ports = {port["name"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            asked = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
            assert asked is None or asked in ports


def test_services_select_pods_that_there_are() -> None:
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for _, each in OBJECTS
        if each["kind"] in ("Deployment", "StatefulSet", "Job")
    ]
    services = [each for _, each in OBJECTS if each["kind"] == "Service"]
    assert len(services) == 4
    assert all(service["spec"]["selector"] in labels for service in services)


def test_a_workload_selects_its_own_pods() -> None:
    for _, each in OBJECTS:
        if each["kind"] in ("Deployment", "StatefulSet"):
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert each["spec"]["selector"]["matchLabels"] == labels


def test_images_have_fixed_versions() -> None:
    tagged = {image["name"]: image["newTag"] for image in KUSTOMIZATION["images"]}
    images = {
        container["image"]
        for name, pod in PODS.items()
        if name.split(":")[0] not in BY_HAND | {"base-job-template.json"}
        for container in pod["containers"]
    }
    assert images == set(tagged)
    assert TEMPLATE["variables"]["properties"]["image"]["default"] == f"segflow:{tagged['segflow']}"
    (training,) = PODS["training.yaml:training"]["containers"]
    assert training["image"] == f"segflow:{tagged['segflow']}-cuda"


def test_hosts_of_a_training_are_told_what_its_settings_understand() -> None:
    service, job = read_all_yaml("kubernetes/training.yaml")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = {each["name"]: each["value"] for each in container["env"]}
    count = job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["parallelism"] == count == int(values["HOSTS"])

    values["JOB_COMPLETION_INDEX"] = str(count - 1)
    told = dict(re.findall(r'--set "train\.(\w+)=([^"]+)"', container["args"][0]))
    for name, value in values.items():
        told = {key: text.replace(f"${name}", value) for key, text in told.items()}
    settings = TrainSettings.model_validate(told)
    assert (settings.hosts, settings.host) == (count, count - 1)

    # A pod of an Indexed Job is called after it and its index, below its subdomain's service.
    name = job["metadata"]["name"]
    subdomain = job["spec"]["template"]["spec"]["subdomain"]
    assert settings.meet_at == f"{name}-0.{subdomain}:{container['ports'][0]['containerPort']}"
    assert service["metadata"]["name"] == subdomain
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_the_worker_may_do_what_it_does_and_no_more() -> None:
    (role,) = [each for _, each in OBJECTS if each["kind"] == "Role"]
    may = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    assert {("jobs", "create"), ("jobs", "watch"), ("pods", "watch"), ("pods/log", "get")} <= may
    assert not [rule for rule in role["rules"] if "*" in rule["verbs"] + rule["resources"]]
    assert not [each for _, each in OBJECTS if each["kind"].startswith("ClusterRole")]
    # It reads one secret, the one whose name it is told.
    (readable,) = [r for r in role["rules"] if "secrets" in r["resources"] and "get" in r["verbs"]]
    (container,) = PODS["worker.yaml:worker"]["containers"]
    assert readable["resourceNames"][0] in {each.get("value") for each in container["env"]}


def test_only_the_server_reaches_the_database() -> None:
    policies = {
        e["metadata"]["name"]: e["spec"] for _, e in OBJECTS if e["kind"] == "NetworkPolicy"
    }
    (rule,) = policies["database"]["ingress"]
    (source,) = rule["from"]
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "server"}
    assert policies["within-the-namespace"]["podSelector"] == {}
