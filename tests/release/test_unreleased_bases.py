"""A release says of an image that users cannot pull what its Dockerfile is FROM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.records import BaseImage, PinnedBase, Plan, PlannedImage
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.release.release_json import ReleaseJson

PARENT, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture
def world(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path)


def on_a_parent(world: MemoryWorld, release: ReleaseJson) -> ReleaseJson:
    """The same build, whose base/a is FROM debian and from base/parent."""
    bases = (BaseImage(reference="debian:12", digest=OTHER), BaseImage(reference="registry.example/p", digest=PARENT))
    images = {image.name: image for image in release.images}
    images["a"] = images["a"].model_copy(update={"bases": bases})
    pinned = tuple(
        PinnedBase(reference=base.reference, digest="", pull="", image=image)
        for base, image in zip(bases, ("", "base/parent"), strict=True)
    )
    planned = PlannedImage(image="base/a", action="build", because=(), reasons=(), bases=pinned, scenarios=())
    world.artifacts.build(release.build).write_plan(Plan(commit=release.commit, images=(planned,)))
    return release.model_copy(update={"images": tuple(images.values())})


def lacks(world: MemoryWorld, release: ReleaseJson) -> str:
    return world.releaser().plan(release).lacks["base/a"]


def test_a_base_that_was_never_released_is_named(world: MemoryWorld) -> None:
    release = on_a_parent(world, world.build(1))
    assert lacks(world, release) == f"not tested, its base base/parent ({PARENT[:19]}) is not in production"
    world.releaser().release(release)  # it stops no release
    assert world.served("base/a") == "1"


def test_a_release_of_the_base_with_another_digest_is_not_enough(world: MemoryWorld) -> None:
    release = on_a_parent(world, world.build(1))
    world.production.put("public/azureml/parent", "latest", OTHER)
    assert "base/parent" in lacks(world, release)
    world.production.put("public/azureml/parent", "v1", PARENT)
    assert lacks(world, release) == "not tested"


def test_a_base_that_the_build_releases_as_well_is_there_afterwards(world: MemoryWorld) -> None:
    release = on_a_parent(world, world.build(1, {"base/a": "1", "base/parent": "a" * 64}))
    assert lacks(world, release) == "not tested"


def test_of_a_build_without_a_plan_nothing_is_said(world: MemoryWorld) -> None:
    release = on_a_parent(world, world.build(1))
    (world.artifacts.build(release.build).root / "plan.json").unlink()
    assert lacks(world, release) == "not tested"
