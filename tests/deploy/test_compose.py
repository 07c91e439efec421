"""deploy/compose: the file is one of the Compose specification, and its parts fit together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
TEXT = COMPOSE.read_text("utf-8")
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
WITH_RUN_CONTAINERS = COMPOSE.with_name("run-containers.yaml")
INSTANCE = COMPOSE.with_name("dagster-run-containers.yaml")
OF_DAGSTER = ("code", "daemon", "webserver", "webserver-read-only", "metrics")


@pytest.mark.parametrize("file", [COMPOSE, WITH_RUN_CONTAINERS], ids=lambda file: file.stem)
def test_it_is_a_file_of_the_compose_specification(file: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_that_are_mounted_are_there() -> None:
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    files = {path for path in mounted if path.startswith("../")}
    assert files == {"../dagster-postgres.yaml", "../caddy/Caddyfile", "../caddy/oauth2-proxy.cfg", "../backup"}
    assert [path for path in files if not (COMPOSE.parent / path).is_file()] == []
    named = {name for name in mounted if re.fullmatch(r"\w+", name)}
    assert named == set(FILE["volumes"])


def test_only_the_proxy_listens_to_the_world() -> None:
    assert all("ports" not in service for service in SERVICES.values())
    for name in (*OF_DAGSTER, "postgres", "staging", "production"):
        text = str(SERVICES[name])
        assert "0.0.0.0" not in text
        assert "127.0.0.1" in text or name == "daemon"


def test_only_the_code_server_has_the_engine_and_none_of_ours_is_root() -> None:
    assert [name for name, service in SERVICES.items() if "docker.sock" in str(service)] == ["code"]
    for name in OF_DAGSTER:
        service = SERVICES[name]
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp:exec"], "without exec no image can be pushed"
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert "\nUSER 10001\n" in (DEPLOY / "Dockerfile").read_text("utf-8")


def test_every_process_of_dagster_has_the_same_instance() -> None:
    instance = "../dagster-postgres.yaml:/var/lib/aml-images/dagster/dagster.yaml:ro"
    wanted = set(re.findall(r"\{env: (\w+)\}", (DEPLOY / "dagster-postgres.yaml").read_text("utf-8")))
    wanted |= set(re.findall(r"\{env: (\w+)\}", (DEPLOY / "workspace.yaml").read_text("utf-8")))
    for name in OF_DAGSTER:
        assert instance in SERVICES[name]["volumes"], name
        assert "state:/var/lib/aml-images" in SERVICES[name]["volumes"]
        assert wanted <= SERVICES[name]["environment"].keys()


def test_every_port_may_be_another() -> None:
    ports = dict(re.findall(r"\$\{(PGPORT|\w+_PORT):-(\d+)\}", TEXT))
    assert len(ports) == 6
    assert len(set(ports.values())) == len(ports)
    bare = re.sub(r"\$\{\w+:-\d+\}", "", TEXT)
    assert [port for port in ports.values() if port in bare] == []


def test_the_factory_reaches_the_webserver_behind_the_sign_in() -> None:
    """To reload the code location: `pull_requests.webserver_url`."""
    code, proxy = SERVICES["code"]["environment"], SERVICES["proxy"]["environment"]
    assert code["AML_IMAGES_PULL_REQUESTS__WEBSERVER_URL"] == f"http://{proxy['AML_IMAGES_WEBSERVER']}"
    assert code["AML_IMAGES_PULL_REQUESTS__UI_URL"] == proxy["AML_IMAGES_ORIGIN"]


def test_a_run_that_was_killed_with_its_container_is_known_to_be_dead() -> None:
    """See `builds.process`: by the host's process ids, and by the machine when it was started again."""
    code = SERVICES["code"]
    assert code["pid"] == "host"
    assert "/etc/machine-id:/etc/machine-id:ro" in code["volumes"]


def test_sensors_can_fetch_into_the_clone() -> None:
    (mount,) = [each for each in SERVICES["code"]["volumes"] if ":/repository" in each]
    assert mount.endswith(":/repository")


def test_services_wait_for_healthy_ones_and_come_back() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == "unless-stopped", name
        for other in service.get("depends_on", {}):
            assert "healthcheck" in SERVICES[other], f"{name} waits for {other}"


def test_the_proxy_gets_every_variable_of_its_configuration() -> None:
    caddyfile = (DEPLOY / "caddy" / "Caddyfile").read_text("utf-8")
    assert set(re.findall(r"\{\$(\w+)[:}]", caddyfile)) == set(SERVICES["proxy"]["environment"])


def test_no_secret_stands_in_it() -> None:
    assert set(re.findall(r"(?:PG|POSTGRES_)PASSWORD: (\S+)", TEXT)) == {"${PGPASSWORD:?set"}


def test_an_instance_whose_runs_are_containers_is_that_of_the_team_but_for_its_launcher() -> None:
    instance = yaml.safe_load(INSTANCE.read_text("utf-8"))
    launcher = instance.pop("run_launcher")
    assert instance == yaml.safe_load((DEPLOY / "dagster-postgres.yaml").read_text("utf-8"))
    assert launcher["class"] == "DockerRunLauncher"
    passed_on = set(launcher["config"]["env_vars"])
    assert {name for name in passed_on if name.startswith("PG")} == {
        name for name in SERVICES["daemon"]["environment"] if name.startswith("PG")
    }
    assert passed_on <= SERVICES["daemon"]["environment"].keys(), "a launch fails if the daemon lacks one"


def test_the_container_of_a_run_is_confined_as_the_code_server_is_and_has_what_that_has() -> None:
    code, kwargs = (
        SERVICES["code"],
        yaml.safe_load(INSTANCE.read_text("utf-8"))["run_launcher"]["config"]["container_kwargs"],
    )
    assert kwargs.pop("stop_timeout") == 120
    assert kwargs.pop("tmpfs") == dict(mount.split(":") for mount in code["tmpfs"])
    same = {"network_mode": "network_mode", "pid_mode": "pid", "read_only": "read_only", "cap_drop": "cap_drop"}
    assert kwargs == {here: code[there] for here, there in (same | {"security_opt": "security_opt"}).items()}
    services = yaml.safe_load(WITH_RUN_CONTAINERS.read_text("utf-8"))["services"]
    context = json.loads(services["code"]["environment"]["DAGSTER_CONTAINER_CONTEXT"])["docker"]["container_kwargs"]
    volumes = [re.sub(r"\$\{(\w+):\?[^}]*\}", r"${\1}", volume) for volume in code["volumes"]]
    volumes = [volume for volume in volumes if "dagster.yaml" not in volume]  # a run gets its instance as an argument
    assert context["volumes"] == [volumes[0].replace("state:", "${COMPOSE_PROJECT_NAME}_state:"), *volumes[1:]]
    assert context["group_add"] == ["${DOCKER_GROUP}"]


def test_every_process_of_dagster_has_the_instance_whose_runs_are_containers() -> None:
    services = yaml.safe_load(WITH_RUN_CONTAINERS.read_text("utf-8"))["services"]
    for name in OF_DAGSTER:
        assert "./dagster-run-containers.yaml:/var/lib/aml-images/dagster/dagster.yaml:ro" in services[name]["volumes"]
    launching = {
        name for name in OF_DAGSTER if "/var/run/docker.sock:/var/run/docker.sock" in services[name]["volumes"]
    }
    assert launching == {"daemon", "webserver"}, "which launch and terminate"
