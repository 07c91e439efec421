"""Images for several platforms, planned, staged and tested in memory, by a test machine that is linux/amd64."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.planning.plan import with_needed_parents
from aml_images_dagster.builds.records import StagedImage, TestedImage, sizes_in_words
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BuildFailed
from tests.builds.in_memory import MemoryFactory, write, write_image

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.builds.session import BuildSession

AMD64, ARM64 = BOTH = ("linux/amd64", "linux/arm64")
BASE = f"sha256:{'b' * 64}"


@pytest.fixture
def factory(tmp_path: Path) -> MemoryFactory:
    """f/base for two platforms, and f/app FROM it."""
    repo = tmp_path / "repo"
    write_image(repo, "f/base", "FROM upstream.example/base:1\nCOPY data /\n")
    write_image(repo, "f/app", "FROM registry.example/base:latest\nCOPY data /\n")
    for image in ("base", "app"):
        write(repo / "images" / "f" / image / "image.json", json.dumps({"platforms": BOTH}))
    write(repo / "checks" / "check.py", "true\n")
    return MemoryFactory(repo, tmp_path / "home", {"upstream.example/base:1": BASE})


def records(session: BuildSession, image: str) -> tuple[StagedImage, TestedImage]:
    staged, tested = session.folder.read_staged(image), session.folder.read_tested(image)
    assert staged
    assert tested
    return staged, tested


def test_each_platform_is_recorded_and_the_one_without_a_machine_is_not_tested(factory: MemoryFactory) -> None:
    plan = factory.plan()
    for planned in plan.images:
        assert planned.tests == {f"runs ({AMD64})": "run", f"runs ({ARM64})": "untested"}
    session = factory.build(plan)
    for image in ("f/base", "f/app"):
        staged, tested = records(session, image)
        assert {each.platform: each.digest for each in staged.platforms} == factory.staging.indexes[staged.digest]
        assert [record.platform for record in tested.scenarios] == [AMD64]
        assert tested.untested == (ARM64,)
        assert sizes_in_words(staged) == f"71 B ({AMD64}), 71 B ({ARM64})"
    digests = factory.staging.indexes[records(session, "f/app")[0].digest]
    assert factory.runner.references == {AMD64: f"staging.example/f@{digests[AMD64]}"}


def test_a_platform_is_tested_once_there_is_a_machine_for_it_and_stays_so_without(factory: MemoryFactory) -> None:
    factory.build(factory.plan())
    factory.runner.platforms.add(ARM64)
    plan = factory.plan()
    assert {planned.action for planned in plan.images} == {"reuse"}
    assert plan.images[0].tests == {f"runs ({AMD64})": "passed", f"runs ({ARM64})": "run"}
    _, tested = records(factory.build(plan), "f/app")
    assert ([record.platform for record in tested.scenarios], tested.untested) == ([AMD64, ARM64], ())
    factory.runner.platforms.remove(ARM64)
    _, tested = records(factory.build(factory.plan()), "f/app")
    assert ([record.platform for record in tested.scenarios], tested.untested) == ([AMD64, ARM64], ())


def test_what_is_untested_stays_untested_when_the_image_is_reused(factory: MemoryFactory) -> None:
    factory.build(factory.plan())
    plan = factory.plan()
    assert all(planned.is_unchanged for planned in plan.images)
    _, tested = records(factory.build(plan), "f/app")
    assert ([record.platform for record in tested.scenarios], tested.untested) == ([AMD64], (ARM64,))


def test_another_set_of_platforms_is_another_image(factory: MemoryFactory) -> None:
    factory.build(factory.plan())
    write(factory.settings.repo / "images/f/app/image.json", json.dumps({"platform": AMD64}))
    planned = factory.plan().by_name
    assert planned["f/base"].action == "reuse"
    assert (planned["f/app"].action, planned["f/app"].because) == (
        "build",
        (f"platform {AMD64},{ARM64} → {AMD64}",),
    )


@pytest.mark.parametrize("settings", [{"platforms": BOTH}, {"platform": ARM64}])
def test_a_base_that_lacks_a_platform_is_refused_where_it_is_named(
    factory: MemoryFactory, settings: dict[str, object]
) -> None:
    """BuildKit takes it all the same, and says of the image that it is for the platform that it was asked for."""
    write(factory.settings.repo / "images/f/base/image.json", json.dumps(settings))
    factory.backends.resolver.of[BASE] = (AMD64,)  # type: ignore[attr-defined]
    planned = factory.plan().by_name["f/base"]
    assert planned.action == "refuse"
    assert planned.because == (
        f"images/f/base/Dockerfile:1: upstream.example/base:1 is not there for {ARM64}, only for {AMD64}",
    )


def test_a_stage_that_names_its_platform_needs_no_other(factory: MemoryFactory) -> None:
    factory.backends.resolver.of[BASE] = (AMD64,)  # type: ignore[attr-defined]
    dockerfile = (
        "FROM --platform=$BUILDPLATFORM upstream.example/base:1 AS tools\nFROM scratch\nCOPY --from=tools /a /a\n"
    )
    write(factory.settings.repo / "images/f/base/Dockerfile", dockerfile)
    assert factory.plan("f/base").by_name["f/base"].action == "build"


def test_an_image_that_was_built_for_other_platforms_fails(factory: MemoryFactory) -> None:
    push = factory.staging.push_index
    factory.staging.push_index = lambda tag, digest, labels, _: push(tag, digest, labels, (AMD64,))  # type: ignore[method-assign]
    with pytest.raises(BuildFailed, match=f"built for {AMD64}, not for {AMD64} and {ARM64}"):
        factory.build(factory.plan("f/base"))


def test_the_staged_digest_of_a_platform(factory: MemoryFactory) -> None:
    session = factory.build(factory.plan("f/base"))
    staged, _ = records(session, "f/base")
    assert staged.on("") == staged.digest != staged.on(ARM64)
    assert factory.staging.digest(Reference("staging.example", "f", digest=staged.on(ARM64)))


def test_a_parent_that_was_built_for_too_few_platforms_is_built_with_its_child(factory: MemoryFactory) -> None:
    session = factory.build(factory.plan("f/base"))
    base, _ = records(session, "f/base")
    source = session.source

    def chosen() -> set[str]:
        return {*with_needed_parents({"f/app": ("named",)}, source, factory.backends, factory.settings)}

    assert chosen() == {"f/app"}
    factory.backends.resolver.of[base.digest] = (AMD64,)  # type: ignore[attr-defined]
    assert chosen() == {"f/app", "f/base"}
