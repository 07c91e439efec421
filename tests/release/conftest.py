"""A build of two images that has passed, as the release files describe it; builds in the real registries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.records import BaseImage, TestedImage
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.release.production import Releaser
from aml_images_dagster.release.release_files import publish
from aml_images_dagster.release.release_json import ReleaseImage, ReleaseJson, StagedReference, TestEntry
from aml_images_dagster.settings import load_settings
from aml_images_dagster.settings.trust import TrustSettings
from tests.records import staged_image

if TYPE_CHECKING:
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

BUILD = "20261123.4f2a9c1e"
TAG = "20261123.v1"


def release_image(family: str, name: str, digit: str) -> ReleaseImage:
    return ReleaseImage(
        name=name,
        family=family,
        os="linux",
        reasons=("modified: Dockerfile",),
        because=("Dockerfile changed",),
        staging=StagedReference(reference=f"staging.example/{family}:{name}--{BUILD}", digest=f"sha256:{digit * 64}"),
        destinations=(f"public/azureml/{name}:{TAG}", f"public/azureml/{name}:latest"),
        content_key="c" * 64,
        bases=(BaseImage(reference="debian:12", digest=f"sha256:{'d' * 64}"),),
        tests=(TestEntry(scenario="single-node", job="job-1", status="passed", seconds=1.5),),
        size_bytes=123,
    )


@pytest.fixture
def release() -> ReleaseJson:
    return ReleaseJson(
        build=BUILD,
        commit="abc",
        source="https://git.example/images",
        created=datetime(2026, 11, 23, 12, tzinfo=UTC),
        release_tag=TAG,
        images=(release_image("base", "debian12", "1"), release_image("base-gpu", "cuda13", "2")),
    )


NewSession = Callable[..., BuildSession]


@pytest.fixture
def staged_build(new_session: NewSession, push_new_image: Callable[[str, str], Reference]) -> NewSession:
    """Begins a build whose images, named `tools/…` and `apps/…`, are new, staged and tested."""

    def stage(*images: str, **fields: Any) -> BuildSession:
        session = new_session(*images, **fields)
        # What builds attach is not of these tests (tests/builds/steps/test_attached_evidence.py).
        session = replace(session, settings=session.settings.model_copy(update={"trust": TrustSettings(attach=False)}))
        session.begin()
        (session.settings.home / ".gitignore").write_text("*\n")
        for name in sorted(session.images):
            image = session.image(name)
            pushed = push_new_image(image.family, session.staging_reference(image).tag)
            reference = str(session.staging_reference(image))
            staged = staged_image(name, session.number, reference=reference, digest=pushed.digest, reasons=("because",))
            session.folder.write_staged(staged)
            session.folder.write_tested(TestedImage(image=name, digest=pushed.digest, scenarios=()))
        return session

    return stage


@pytest.fixture
def complete_build(staged_build: NewSession) -> Callable[..., ReleaseJson]:
    """Makes a build that is complete, of images named `tools/…` and `apps/…`, and gives its release.json."""

    def complete(*images: str, tag: str = "", age: timedelta = timedelta(0), **fields: Any) -> ReleaseJson:
        session = staged_build(*images, **fields)
        session = replace(session, release_tag=tag or session.release_tag, created=session.created - age)
        begun = session.folder.read_build()
        assert begun is not None
        changed = {"release_tag": session.release_tag, "created": session.created}
        session.folder.write_build(begun.model_copy(update=changed))
        return publish(session).release

    return complete


class House:
    """Staging, production, and releases from the one into the other."""

    def __init__(self, repository: ImageRepository, settings: Settings, backends: Backends) -> None:
        self.repository = repository
        self.settings = settings
        self.backends = backends
        self.told: list[str] = []

    def move_production(self, host: str) -> None:
        """Let the command line and the releases know production by another name."""
        staging = self.settings.staging_registry
        self.repository.configure(staging, host, self.settings.production_names)
        self.repository.commit("another production registry")
        self.settings = load_settings(repo=self.repository.root)
        self.backends = backends_for(self.settings)

    def configure(self, **release: Any) -> None:
        group = self.settings.release.model_validate({**self.settings.release.model_dump(), **release})
        self.settings = self.settings.model_copy(update={"release": group})

    def releaser(self, who: str = "somebody") -> Releaser:
        return Releaser(self.backends, self.settings, who, self.told.append)

    def served(self, name: str) -> str | None:
        repository, _, tag = name.rpartition(":")
        return self.backends.production.digest(Reference(self.backends.production.host, repository, tag))

    def latest(self, release: ReleaseJson) -> dict[str, str | None]:
        names = [name for image in release.images for name in image.destinations if name.endswith(":latest")]
        return {name: self.served(name) for name in names}

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.backends.artifacts)


def digests(release: ReleaseJson, *, latest: bool) -> dict[str, str]:
    """What production serves for a release once it is done, of its :latest tags or of the others."""
    return {
        name: image.staging.digest
        for image in release.images
        for name in image.destinations
        if name.endswith(":latest") == latest
    }


@pytest.fixture
def house(image_repository: ImageRepository, settings: Settings, backends: Backends) -> House:
    return House(image_repository, settings, backends)
