"""What is to be built after a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts, write_atomically
from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord, TagChange
from aml_images_dagster.builds.records import BaseImage
from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.release.dependents import dependents
from tests.image_repository import ImageRepository
from tests.records import begun_release, staged_image

if TYPE_CHECKING:
    from pathlib import Path

NEW, OLD = f"sha256:{'1' * 64}", f"sha256:{'0' * 64}"


class Factory:
    """A catalog of tools/shell, apps/hello FROM it, apps/more FROM that, and apps/other; and its ledger."""

    def __init__(self, root: Path) -> None:
        self.repository = ImageRepository.create(root)
        self.repository.write_image("apps/more", "FROM registry.example/hello\n")
        self.artifacts = Artifacts(str(root / "artifacts"))
        self.ledger = Ledger(self.artifacts)

    def release(self, *images: str, build: str = "20261123.00000001", digest: str = NEW) -> ReleaseRecord:
        changes = tuple(
            TagChange(image=image, repository=image, tag="latest", before=None, after=digest) for image in images
        )
        return self.ledger.complete(self.ledger.append(begun_release(build, changes=changes)), "somebody")

    def released_on(self, image: str, base: str) -> None:
        """An image was released that is built on a digest."""
        build = "20261122.00000002"
        bases = (BaseImage(reference="registry.example/shell", digest=base),)
        self.artifacts.build(build).write_staged(staged_image(image, build, digest=OLD, bases=bases))
        self.release(image, build=build, digest=OLD)

    def after(self, record: ReleaseRecord) -> dict[str, tuple[str, ...]]:
        catalog = Catalog.load(
            WorkingTree(self.repository.root),
            "images",
            published_as=("registry.example/{name}",),
            tests_path="checks",
        )
        return dependents(record, catalog, self.artifacts, self.ledger.records())


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    return Factory(tmp_path / "repository")


def test_everything_that_is_from_it(factory: Factory) -> None:
    assert factory.after(factory.release("tools/shell")) == {
        "apps/hello": ("FROM tools/shell, released as 20261123.v1",),
        "apps/more": ("FROM apps/hello",),
    }


def test_nothing_is_from_a_leaf(factory: Factory) -> None:
    assert factory.after(factory.release("apps/other")) == {}


def test_what_was_released_with_it_is_not_built_again(factory: Factory) -> None:
    assert factory.after(factory.release("tools/shell", "apps/hello", "apps/more")) == {}


def test_what_is_built_on_the_released_digest_is_not_built_again(factory: Factory) -> None:
    factory.released_on("apps/hello", NEW)
    assert factory.after(factory.release("tools/shell")) == {}


def test_what_is_built_on_an_older_digest_is(factory: Factory) -> None:
    factory.released_on("apps/hello", OLD)
    assert list(factory.after(factory.release("tools/shell"))) == ["apps/hello", "apps/more"]


def test_what_has_a_damaged_record_is(factory: Factory) -> None:
    factory.released_on("apps/hello", NEW)
    write_atomically(factory.artifacts.build("20261122.00000002").image("apps/hello") / "staged.json", b"{")
    assert list(factory.after(factory.release("tools/shell"))) == ["apps/hello", "apps/more"]


def test_what_is_past_its_end_of_life_is_not(factory: Factory) -> None:
    factory.repository.write(factory.repository.folder("apps/hello") / "image.json", '{"eol": "2020-01-01"}')
    assert "apps/hello" not in factory.after(factory.release("tools/shell"))
