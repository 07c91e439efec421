"""What faults happen to: an engine, a registry and a Dagster of the tests' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.cli.instance import CONFIGURATION
from tests.browser.dagster_ui import DagsterUi
from tests.faults.alone import place
from tests.faults.gate import GatedRegistry
from tests.faults.own_engine import OwnEngine
from tests.faults.own_registry import OwnRegistry
from tests.faults.scene import Scene, World, mirror_busybox
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.oci import OciRegistry


@pytest.fixture(scope="session")
def world(staging: OciRegistry, busybox: Reference) -> Iterator[World]:
    with place() as folder, OwnRegistry(folder / "registry") as registry:
        mirror_busybox(staging, busybox, registry)
        with GatedRegistry(registry.host) as front:
            port = int(front.host.partition(":")[2])
            with OwnEngine(folder / "engine", (port,)) as engine:
                yield World(engine, registry, front)


@pytest.fixture(scope="session")
def command_line(world: World, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The command line alone: no daemon runs."""
    scene = Scene.create(tmp_path_factory.mktemp("faults") / "repository", world)
    scene.first_build()
    return scene


@pytest.fixture(scope="module")  # its UI and daemon work, also when nobody looks
def with_daemon(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """UI and daemon on the instance that the command line uses too."""
    scene = Scene.create(tmp_path_factory.mktemp("faults") / "repository", world)
    with DagsterUi(scene.repository.root, scene.home) as scene.ui:
        scene.succeed("UI")
        yield scene


@pytest.fixture(scope="module")  # its UI and daemon work, also when nobody looks
def on_postgres(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """UI and daemon on an instance in a Postgres of the tests' own."""
    scene = Scene.create(tmp_path_factory.mktemp("faults") / "repository", world)
    with PostgresServer() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        scene.home.mkdir(parents=True)
        (scene.home.parent / ".gitignore").write_text("*\n")  # else the folder is a change of the working tree
        (scene.home / "dagster.yaml").symlink_to(CONFIGURATION.with_name("dagster-postgres.yaml"))
        with DagsterUi(scene.repository.root, scene.home) as scene.ui:
            scene.succeed("UI")
            yield scene
