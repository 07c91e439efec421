"""What the build of a pull request would change for users: against production, from layers in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.versions.production_difference import (
    ProductionDifference,
    against_production,
    read_production_difference,
)
from aml_images_dagster.errors import Unreachable
from tests.builds.in_memory import MemoryFactory, write_image
from tests.records import staged_image
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.catalog.reference import Reference


class Production(MemoryRegistry):
    """A registry of layers that also serves one `:latest`."""

    latest: str | None = None

    def digest(self, reference: Reference) -> str | None:
        return self.latest if reference.tag == "latest" else super().digest(reference)


class Scene:
    """A repository with one image, `apps/a`."""

    def __init__(self, folder: Path) -> None:
        write_image(folder, "apps/a", "FROM base:1\nRUN true\n")
        self.registry = Production()
        self.world = MemoryFactory(folder, folder / "home", {})
        registry = self.registry
        self.world.backends = replace(self.world.backends, staging=registry, production=registry)  # type: ignore[arg-type]
        self.session = self.world.session(pull_request="7")

    def push(self, **packages: str) -> str:
        status = "".join(deb(name.replace("_", "."), version) for name, version in packages.items())
        return self.registry.push({"var/lib/dpkg/status": status}).digest

    def compare(self, digest: str) -> ProductionDifference:
        found = against_production(self.session, staged_image("apps/a", self.session.number, digest=digest))
        assert read_production_difference(self.session.folder, "apps/a", digest) == found
        assert read_production_difference(self.session.folder, "apps/a", f"sha256:{'0' * 64}") is None
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_another_minor_version_of_python_may_break_users(scene: Scene) -> None:
    scene.registry.latest = scene.push(**{"python3_10-minimal": "3.10.2-1"})
    found = scene.compare(scene.push(**{"python3_12-minimal": "3.12.1-1"}))
    assert found.may_break == ("Python 3.10 → 3.12",)
    assert found.difference is not None
    assert found.difference.vulnerabilities is not None
    assert found.difference.vulnerabilities.not_looked


def test_what_production_does_not_serve_yet_breaks_nobody(scene: Scene) -> None:
    found = scene.compare(scene.push(libc6="2.36"))
    assert (found.difference, found.may_break, found.is_first) == (None, (), True)
    assert found.unknown == "not released yet"


def test_a_production_that_does_not_answer_is_said_in_a_line(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Unreachable("no answer\nafter three times", where="prod.example")

    monkeypatch.setattr(Production, "digest", refuse)
    found = against_production(scene.session, staged_image("apps/a", scene.session.number))
    assert (found.unknown, found.is_first, found.may_break) == ("no answer", False, ())


def test_an_image_that_production_serves_and_cannot_be_read_is_said_in_a_line(scene: Scene) -> None:
    scene.registry.latest = f"sha256:{'9' * 64}"
    found = scene.compare(scene.push(libc6="2.36"))
    assert (found.unknown, found.is_first) == ("the registry has no such image", False)
