"""Staging an image with the real engine and the real registry."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import pytest

from aml_images_dagster.builds import staging
from aml_images_dagster.builds.artifacts import BuildFolder
from aml_images_dagster.builds.cleanup import cleanup
from aml_images_dagster.builds.records import PassedImage, TestedImage
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit import builder
from aml_images_dagster.errors import BadInput, BuildFailed, BuildStopped
from aml_images_dagster.registry.oci import OciRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.builds.records import BuildRecord, StagedImage
    from aml_images_dagster.builds.session import BuildSession
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def test_a_build_that_was_cleaned_up_meanwhile_leaves_no_staging_tag_in_the_engine(
    new_session: Callable[..., BuildSession],
    image_repository: ImageRepository,
    client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = new_session("apps/other")
    name = image_repository.image("apps/other")
    reference = session.staging_reference(session.image(name))
    built = []
    digest_in = builder._digest_in

    def fail_elsewhere(*arguments: Any) -> str:
        built.append(digest_in(*arguments))
        session.folder.finish("failed")
        return built[-1]

    monkeypatch.setattr(builder, "_digest_in", fail_elsewhere)
    with pytest.raises(BuildFailed, match="was stopped: its status is failed"):
        staging.stage(session, name, print)
    assert built
    assert cleanup(session.number, session.backends, "failed").clean
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(str(reference))
    assert session.backends.staging.digest(reference) is None


def passed_before(session: BuildSession, staged: StagedImage) -> None:
    tested = TestedImage(image=staged.image, digest=staged.digest, scenarios=())
    session.backends.artifacts.write_passed(PassedImage(staged=staged, tested=tested))


class CleanedUpMeanwhile(OciRegistry):
    """The real registry, in which an image of another build goes at the moment in which it is reused."""

    def tag(self, reference: Reference, tag: str) -> None:
        super().tag(reference, tag)
        self.delete(reference)


def while_it_is_cleaned_up(session: BuildSession) -> BuildSession:
    backends = dataclasses.replace(session.backends, staging=CleanedUpMeanwhile(session.backends.staging.host))
    return dataclasses.replace(session, backends=backends)


def test_an_image_that_goes_while_it_is_reused_is_built_again(
    new_session: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    name = image_repository.image("apps/other")
    earlier = new_session("apps/other")
    before = staging.stage(earlier, name, print)
    passed_before(earlier, before)
    session = new_session("apps/other")
    after = staging.stage(while_it_is_cleaned_up(session), name, print)
    assert after.built_in == session.number
    assert session.backends.staging.digest(Reference.parse(after.reference)) == after.digest


class TakenOverAtLast(OciRegistry):
    """The real registry; right before an image goes for which no tag was found, something happens."""

    happens: Callable[[], object]

    def delete(self, reference: Reference) -> None:
        self.happens()
        super().delete(reference)


def test_an_image_that_is_reused_after_the_last_look_of_a_cleanup_is_built_again(
    new_session: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    name = image_repository.image("apps/other")
    earlier, session = new_session("apps/other"), new_session("apps/other")
    passed_before(earlier, staging.stage(earlier, name, print))
    registry = TakenOverAtLast(session.backends.staging.host)
    taken: list[StagedImage] = []
    registry.happens = lambda: taken.append(staging.stage(session, name, print))
    assert cleanup(earlier.number, dataclasses.replace(session.backends, staging=registry), "failed").clean
    (after,) = taken
    assert after.built_in == session.number
    assert session.backends.staging.digest(Reference.parse(after.reference)) == after.digest


def test_an_image_that_goes_while_it_is_reused_is_not_in_staging(
    new_session: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    name = image_repository.image("apps/other")
    earlier = new_session("apps/other")
    staging.stage(earlier, name, print)
    session = while_it_is_cleaned_up(new_session("apps/other"))
    with pytest.raises(BadInput, match="is not in staging"):
        staging.reuse_staged(session, name, earlier.number)
    assert session.folder.read_staged(name) is None


def test_a_step_that_begins_while_another_fails_does_not_go_on(
    new_session: Callable[..., BuildSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session("apps/other")
    read = BuildFolder.read_build

    def fail_elsewhere(folder: BuildFolder) -> BuildRecord | None:
        found = read(folder)
        monkeypatch.setattr(BuildFolder, "read_build", read)
        new = new_session("apps/other")
        dataclasses.replace(new, number=session.number).begin()
        folder.finish("failed")
        return found

    monkeypatch.setattr(BuildFolder, "read_build", fail_elsewhere)
    with pytest.raises(BuildStopped, match="its status is failed"):
        session.begin()
    assert session.has_ended()


def test_a_new_image_is_built_as_it_was_written(
    new_session: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    name, parent = image_repository.image("apps/greeter"), image_repository.image("tools/shell")
    image_repository.json("new", name, "--from", parent)
    session = new_session("apps/greeter", "tools/shell")
    beneath = staging.stage(session, parent, print)
    staged = staging.stage(session, name, print)
    assert [base.digest for base in staged.bases] == [beneath.digest]
    assert staged.notices == {"/LICENSE.txt": True, "/ThirdPartyNotices.txt": True}


def test_an_image_past_its_end_of_life_is_built_only_when_it_is_named(image_repository: ImageRepository) -> None:
    ended, child = image_repository.image("tools/shell"), image_repository.image("apps/hello")
    image_repository.write(image_repository.folder("tools/shell") / "image.json", '{"eol": "2021-04-30"}')
    image_repository.write(image_repository.folder("apps/hello") / "Dockerfile", "FROM busybox\nRUN true\n")

    def planned(*arguments: str) -> set[str]:
        return {step["image"] for step in image_repository.json("build", "--dry-run", *arguments)["images"]}

    assert planned(ended) == {ended}
    assert planned("--all") == {child, image_repository.image("apps/other")}
    image_repository.commit("nothing since")
    assert planned("--base", "HEAD") == {child, image_repository.image("apps/other")}
