"""deploy/compose with a container for each run, by Dagster's own launcher on the real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deployed.compose import deploy
from tests.deployed.site import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from docker.models.containers import Container

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.deployed.compose import Deployed

pytestmark = [pytest.mark.engine, pytest.mark.deployed]


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory,
    factory_image_with_launchers: str,
    stand_ins: dict[str, str],
    staging: OciRegistry,
    busybox: Reference,
    engine_client: docker.DockerClient,
) -> Iterator[Deployed]:
    root = tmp_path_factory.mktemp("run-containers")
    files = ("compose.yaml", "run-containers.yaml")
    with deploy(root, factory_image_with_launchers, stand_ins, staging, busybox, engine_client, files) as found:
        try:
            yield found
        finally:
            for run in (run_id for job in ("build", "build_images", "cleanup") for run_id in found.site.runs(job)):
                for container in found.engine.containers.list(
                    ignore_removed=True, all=True, filters={"label": f"dagster/run_id={run}"}
                ):
                    container.remove(force=True)


def container_of(deployed: Deployed, run_id: str) -> Container:
    (container,) = deployed.engine.containers.list(
        ignore_removed=True, all=True, filters={"label": f"dagster/run_id={run_id}"}
    )
    return container


def test_a_build_is_a_container_and_goes_on_while_the_code_server_is_replaced(deployed: Deployed) -> None:
    run_id, build = deployed.start_sleeping_build(20)
    assert container_of(deployed, run_id).status == "running"
    deployed.compose("up", "--detach", "--force-recreate", "--no-deps", "code")
    assert deployed.site.ended(run_id)["status"] == "SUCCESS"
    wait_for(deployed.site.is_loaded, "the code location is loaded")
    assert deployed.command("status", build)["status"] == "succeeded"


def test_a_build_that_is_terminated_leaves_nothing(deployed: Deployed) -> None:
    run_id, build = deployed.start_sleeping_build(200)
    deployed.site.terminate(run_id)
    assert deployed.site.ended(run_id)["status"] == "CANCELED"
    deployed.nothing_is_left(build)


def test_a_build_whose_container_is_killed_leaves_nothing(deployed: Deployed) -> None:
    run_id, build = deployed.start_sleeping_build(200)
    container_of(deployed, run_id).kill()
    assert deployed.site.ended(run_id)["status"] == "FAILURE"
    deployed.nothing_is_left(build)
