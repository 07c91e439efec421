"""Whole builds whose instance is in a real Postgres, and one whose Postgres is stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import docker
import pytest

from aml_images_dagster.cli.instance import CONFIGURATION
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = [pytest.mark.engine, pytest.mark.e2e, pytest.mark.services]

OUTAGE = 20
"""Seconds; Dagster tries to connect for eleven."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def engine_client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def repository(repository: ImageRepository, server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> ImageRepository:
    home = repository.root / ".aml-images" / "dagster"
    home.mkdir(parents=True)
    (home.parent / ".gitignore").write_text("*\n")  # else the folder is a change of the working tree
    (home / "dagster.yaml").symlink_to(CONFIGURATION.with_name("dagster-postgres.yaml"))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return repository


def staged_tags(repository: ImageRepository, staging: OciRegistry) -> list[str]:
    return [tag for family in repository.families.values() for tag in staging.tags(family)]


def test_postgres_stopped_in_mid_build_loses_nothing_and_leaves_nothing(
    repository: ImageRepository, staging: OciRegistry, server: PostgresServer, engine_client: docker.DockerClient
) -> None:
    image = repository.image("apps/other")
    first = repository.json("build", image)
    assert first["status"] == "succeeded"
    assert server.query(f"select status from runs where run_id = '{first['run_id']}'") == "SUCCESS"
    kept = staged_tags(repository, staging)

    repository.write(repository.root / "checks" / "runs.py", "echo sleeping; exec sleep 40\n")
    with (repository.folder("apps/other") / "Dockerfile").open("a") as dockerfile:
        dockerfile.write("RUN echo another > /another\n")
    process = repository.start("build", image)
    deadline = time.monotonic() + 120
    mine = {"label": f"aml-images.image={image}"}
    while not (containers := engine_client.containers.list(ignore_removed=True, filters=mine)):
        assert time.monotonic() < deadline, "no job was started"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    build = containers[0].labels["aml-images.build"]
    server.stop()
    time.sleep(OUTAGE)
    server.start()
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in out + err
    status = repository.json("status", build)["status"]
    assert (process.returncode, status) in ((0, "succeeded"), (1, "failed"))

    if status == "failed":
        assert repository.run("cleanup", build).returncode == 0
        assert staged_tags(repository, staging) == kept
        assert not (repository.artifacts / build / "release.json").exists()
    of_build = {"label": f"aml-images.build={build}"}
    assert engine_client.containers.list(ignore_removed=True, all=True, filters=of_build) == []
    assert engine_client.networks.list(filters=of_build) == []
    assert repository.json("status", first["build"])["status"] == "succeeded"
    repository.write(repository.root / "checks" / "runs.py", "echo running\n")
    assert repository.json("build", image)["status"] == "succeeded"
