"""The public registry, played by a third one, serves a release some time later, or never, or something else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.release.public_availability import await_promotion, problems
from tests.faults.own_registry import OwnRegistry
from tests.release.conftest import House, digests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aml_images_dagster.release.release_json import ReleaseJson

pytestmark = pytest.mark.engine

IMAGES = ("apps/other", "tools/shell")


@pytest.fixture
def public(tmp_path: Path) -> Iterator[OciRegistry]:
    with OwnRegistry(tmp_path / "public") as own:
        yield OciRegistry(own.host)


class Promoter:
    """What copies production to the public.

    Args:
        house: Production.
        public: The public registry.
    """

    def __init__(self, house: House, public: OciRegistry) -> None:
        self.house = house
        self.public = public
        house.configure(public_names=f"{public.host}/azureml/{{name}}", promotion_poll_seconds=0.1)

    def wait_at_most(self, seconds: float) -> None:
        self.house.configure(promotion_timeout_minutes=seconds / 60)

    def promote(self, name: str, digest: str, tag: str = "") -> None:
        production = self.house.backends.production
        repository, _, own = name.rpartition(":")
        source = Reference(production.host, repository, digest=digest)  # type: ignore[arg-type]
        copy_image(production, self.public, source, f"azureml/{repository.rpartition('/')[2]}", [tag or own])  # type: ignore[arg-type]


@pytest.fixture
def promoter(house: House, public: OciRegistry) -> Promoter:
    return Promoter(house, public)


def test_it_is_waited_for(promoter: Promoter, complete_build: Callable[..., ReleaseJson]) -> None:
    house = promoter.house
    release = complete_build(*IMAGES)
    changes = house.releaser().release(release).record.changes
    everything = digests(release, latest=False) | digests(release, latest=True)
    first, *others = everything.items()
    promoter.promote(*first)
    told: list[str] = []
    one_is_there = threading.Event()

    def report(line: str) -> None:
        told.append(line)
        if line.endswith("to go"):
            one_is_there.set()

    def later() -> None:
        one_is_there.wait(30)
        for name, digest in others:
            promoter.promote(name, digest)

    thread = threading.Thread(target=later)
    thread.start()
    promoter.wait_at_most(60)
    tags = await_promotion(changes, house.settings, report)
    thread.join()
    assert {tag.state for tag in tags} == {"there"}
    assert sorted(tag.digest for tag in tags) == sorted(everything.values())
    assert told[0] == f"waiting for 4 tags in {promoter.public.host}"
    assert [line.rpartition(", ")[2] for line in told[1:]] == ["3 to go", "2 to go", "1 to go", "0 to go"]


def test_late(promoter: Promoter, complete_build: Callable[..., ReleaseJson]) -> None:
    house = promoter.house
    first, second = complete_build(*IMAGES, tag="first"), complete_build(*IMAGES, tag="second")
    house.releaser().release(first)
    for name, digest in digests(first, latest=True).items():
        promoter.promote(name, digest)  # the public still has the release before as its latest
    changes = house.releaser().release(second).record.changes
    promoter.wait_at_most(0.3)
    tags = await_promotion(changes, house.settings, house.told.append)
    assert {tag.state for tag in tags} == {"late"}
    assert len(problems(tags, "late")) == 4
    assert problems(tags, "wrong") == []


def test_a_release_tag_with_another_digest_is_not_waited_for(
    promoter: Promoter, complete_build: Callable[..., ReleaseJson]
) -> None:
    house = promoter.house
    older, release = complete_build("tools/shell", tag="older"), complete_build("tools/shell", tag="v1")
    house.releaser().release(older)
    changes = house.releaser().release(release).record.changes
    ((name, digest),) = digests(release, latest=True).items()
    promoter.promote(name, digest)
    promoter.promote(name, older.images[0].staging.digest, "v1")
    promoter.wait_at_most(3600)
    tags = await_promotion(changes, house.settings, house.told.append)
    assert {tag.reference.tag: tag.state for tag in tags} == {"latest": "there", "v1": "wrong"}
    (said,) = problems(tags, "wrong")
    assert older.images[0].staging.digest in said


def test_a_public_registry_that_does_not_answer_is_late(
    promoter: Promoter, complete_build: Callable[..., ReleaseJson]
) -> None:
    house = promoter.house
    changes = house.releaser().release(complete_build("tools/shell")).record.changes
    house.configure(public_names="127.0.0.1:9/azureml/{name}", promotion_timeout_minutes=0.001)
    assert {tag.state for tag in await_promotion(changes, house.settings, house.told.append)} == {"late"}


def test_without_a_public_registry_nothing_is_waited_for(
    house: House, complete_build: Callable[..., ReleaseJson]
) -> None:
    changes = house.releaser().release(complete_build("tools/shell")).record.changes
    assert await_promotion(changes, house.settings, house.told.append) == []
