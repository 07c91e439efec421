"""The same commit built again, on another engine: the same digests, and builds that do not depend on each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit.buildx import Buildx
from tests.faults.own_engine import OwnEngine

if TYPE_CHECKING:
    from tests.faults.scene import Scene, World

pytestmark = [pytest.mark.engine, pytest.mark.faults]

IMAGES = ("tools/shell", "apps/hello")
MADE_NOW = "RUN mkdir /made && date > /dev/null && echo y > /made/file\n"


def test_a_commit_that_is_built_again_on_another_engine_makes_the_same_digests(
    command_line: Scene, world: World
) -> None:
    scene, repository = command_line, command_line.repository
    scene.fix()
    with (repository.folder("tools/shell") / "Dockerfile").open("a") as file:
        file.write(MADE_NOW)
    sets_times = Buildx().version() >= (0, 22)
    for image in IMAGES if sets_times else ():
        (repository.folder(image) / "image.json").write_text('{"rewrite_timestamp": true}\n')
    repository.commit("a file that has a time")
    names = [repository.image(image) for image in IMAGES]
    first = repository.json("build", *names, "--force")
    port = int(world.front.host.partition(":")[2])
    with OwnEngine(world.engine.folder.with_name("again"), (port,), namespace="-2") as engine:
        second = repository.json("build", *names, "--force", AML_IMAGES_DOCKER_HOST=engine.url)
    made = [[digest_in(scene, name, build) for name in names] for build in (first, second)]
    assert None not in (*made[0], *made[1])
    assert (made[0] == made[1]) is sets_times
    assert [image["reused"] for image in second["images"]] == [False, False]
    shell, hello = (layers(scene, name, second) for name in names)
    assert hello[: len(shell)] == shell, "what an image is built on is left as it is"
    # The one can be removed, and the other stays.
    assert repository.run("cleanup", first["build"], "--yes").returncode == 0
    assert [digest_in(scene, name, first) for name in names] == [None, None]
    assert [digest_in(scene, name, second) for name in names] == made[1]
    assert [image["reused"] for image in repository.json("build", *names)["images"]] == [True, True]
    assert scene.damaged() == []


def tag_in(scene: Scene, name: str, build: dict[str, Any]) -> Reference:
    family, _, image = name.partition("/")
    return Reference(scene.eyes.registry.host, family, f"{image}--{build['build']}")


def digest_in(scene: Scene, name: str, build: dict[str, Any]) -> str | None:
    return scene.eyes.registry.digest(tag_in(scene, name, build))


def layers(scene: Scene, name: str, build: dict[str, Any]) -> list[str]:
    manifest = json.loads(scene.eyes.registry.existing(tag_in(scene, name, build)).body)
    return [layer["digest"] for layer in manifest["layers"]]
