"""deploy/kubernetes: manifests against Kubernetes' own schemas, and whether they fit together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
OBJECTS: list[dict[str, Any]] = [
    document
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
]
WORKLOADS = [each for each in OBJECTS if each["kind"] == "Deployment"]
SECRETS = {"aml-images-postgres", "aml-images-secrets"}
"""Made by a person: docs/operate.md says how."""


def name_of(each: dict[str, Any]) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == kind}


def containers(workload: dict[str, Any]) -> list[dict[str, Any]]:
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("each", OBJECTS, ids=name_of)
def test_each_object_is_one_of_kubernetes(each: dict[str, Any], version: str) -> None:
    import kubernetes_validate  # only here, because it takes seconds and every run of pytest loads this module

    kubernetes_validate.validate(each, version, strict=True)


def test_every_file_is_a_resource() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(KUSTOMIZATION["resources"])


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_pods_are_confined_and_say_what_they_need(workload: dict[str, Any]) -> None:
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in containers(workload):
        assert container["image"] == "aml-images"
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"].keys() == {"requests", "limits"}


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_what_a_pod_names_is_there(workload: dict[str, Any]) -> None:
    spec = workload["spec"]
    pod = spec["template"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert pod["serviceAccountName"] in named("ServiceAccount")
    assert pod["enableServiceLinks"] is False, "services are named as settings are"
    volumes = {volume["name"] for volume in pod["volumes"]}
    maps = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    for container in containers(workload):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for source in container["envFrom"]:
            maps |= {source["configMapRef"]["name"]} if "configMapRef" in source else set()
            assert "secretRef" not in source or source["secretRef"]["name"] in SECRETS
    assert maps <= named("ConfigMap").keys()


def test_sensors_can_fetch_into_the_clone() -> None:
    (code,) = [each for each in WORKLOADS if each["metadata"]["name"] == "aml-images-code"]
    (container,) = code["spec"]["template"]["spec"]["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == "/repository"]
    assert "readOnly" not in mount


def test_services_lead_to_ports_of_pods() -> None:
    pods = {each["metadata"]["name"]: each for each in WORKLOADS}
    for service in named("Service").values():
        selected = service["spec"]["selector"]["app.kubernetes.io/name"]
        ports = {port["name"]: port["containerPort"] for c in containers(pods[selected]) for port in c.get("ports", ())}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    settings = named("ConfigMap")["aml-images-settings"]["data"]
    assert settings["AML_IMAGES_CODE_HOST"] in named("Service")
    assert settings["AML_IMAGES_RELEASE__KUBERNETES_SERVICE_ACCOUNT"] in named("ServiceAccount")


def test_the_instance_is_that_of_the_team_but_for_what_kubernetes_does() -> None:
    instance = yaml.safe_load(named("ConfigMap")["aml-images-instance"]["data"]["dagster.yaml"])
    team = yaml.safe_load((FOLDER.parent / "dagster-postgres.yaml").read_text("utf-8"))
    launcher = instance.pop("run_launcher")["config"]
    for document in (instance, team):
        document.pop("compute_logs")
    assert instance == team
    assert launcher["service_account_name"] in named("ServiceAccount")
    assert launcher["job_namespace"] == KUSTOMIZATION["namespace"]
    assert {launcher["instance_config_map"], *launcher["env_config_maps"]} == named("ConfigMap").keys()
    assert set(launcher["env_secrets"]) == SECRETS


def test_pods_of_runs_are_confined_as_their_namespace_demands() -> None:
    """Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    (namespace,) = named("Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    instance = yaml.safe_load(named("ConfigMap")["aml-images-instance"]["data"]["dagster.yaml"])
    run = instance["run_launcher"]["config"]["run_k8s_config"]
    pod = run["pod_spec_config"]
    assert pod["security_context"]["run_as_non_root"] is True
    assert pod["enable_service_links"] is False
    assert pod["security_context"]["seccomp_profile"] == {"type": "RuntimeDefault"}
    for container in (run["container_config"], *pod["init_containers"]):
        confined = {"allow_privilege_escalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["security_context"] == confined
        assert container["resources"].keys() == {"requests", "limits"}
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = [m for c in (run["container_config"], *pod["init_containers"]) for m in c["volume_mounts"]]
    assert {mount["name"] for mount in mounts} == volumes


def test_a_run_has_the_image_of_the_code_server() -> None:
    (image,) = KUSTOMIZATION["images"]
    wanted = f"{image['newName']}:{image['newTag']}"
    texts = [(FOLDER / name).read_text("utf-8") for name in ("code.yaml", "instance.yaml")]
    assert {found for text in texts for found in re.findall(r"registry\.example/\S+?(?=[},\s])", text)} == {wanted}


def test_the_launcher_may_do_what_it_asks_for_and_nothing_else() -> None:
    (role,) = named("Role").values()
    may = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    asked = {("jobs", "create"), ("jobs/status", "get"), ("jobs", "delete"), ("pods", "list"), ("pods", "delete")}
    assert asked <= may
    assert not {resource for resource, _ in may} & {"secrets", "*", "pods/exec"}
