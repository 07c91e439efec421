"""Staging an image with the real engine and the real registry."""

from __future__ import annotations

import dataclasses
import json
import tarfile
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import docker
import docker.errors
import pytest

from aml_images_dagster.builds.artifacts import BuildFolder
from aml_images_dagster.builds.housekeeping.cleanup import cleanup
from aml_images_dagster.builds.records import PassedImage, TestedImage
from aml_images_dagster.builds.steps import staging
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit import builder
from aml_images_dagster.errors import BadInput, BuildFailed, BuildStopped
from aml_images_dagster.registry.oci import OciRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

    from aml_images_dagster.builds.records import BuildRecord, StagedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.builds.steps.recipe import Recipe
    from aml_images_dagster.engine.interface import BuildRequest, LogLine
    from aml_images_dagster.registry.interface import Manifest
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


@pytest.mark.parametrize(
    ("dockerfile", "private", "place", "fields"),
    [
        ("FROM busybox:latest\nRUN \\\n  nosuchcommand\n", "COPY LICENSE.txt /\n", "Dockerfile:2", {}),
        (
            "# syntax=docker/dockerfile:1\nFROM busybox:latest",
            "COPY LICENSE.txt /\nRUN nosuchcommand\n",
            "Dockerfile.private:2",
            {},
        ),
        # There, lines are added.
        ("FROM busybox:latest\nRUN nosuchcommand\n", "", "Dockerfile", {"pull_request": "7"}),
    ],
)
def test_a_dockerfile_that_fails_is_named_with_its_line(
    new_session: Callable[..., BuildSession],
    image_repository: ImageRepository,
    dockerfile: str,
    private: str,
    place: str,
    fields: dict[str, str],
) -> None:
    folder = image_repository.folder("apps/other")
    image_repository.write(folder / "Dockerfile", dockerfile)
    image_repository.write(folder / "Dockerfile.private", private)
    with pytest.raises(BuildFailed, match=r"the build failed: .*nosuchcommand") as failed:
        staging.stage(new_session("apps/other", **fields), image_repository.image("apps/other"), print)
    assert failed.value.where == f"{folder.relative_to(image_repository.root)}/{place}"


def passed_before(session: BuildSession, staged: StagedImage) -> None:
    tested = TestedImage(image=staged.image, digest=staged.digest, scenarios=())
    session.backends.artifacts.write_passed(PassedImage(staged=staged, tested=tested))


class CleanedUpMeanwhile(OciRegistry):
    """The real registry, in which an image of another build goes at the moment in which it is reused."""

    def send_manifest(self, repository: str, version: str, manifest: Manifest) -> requests.Response:
        answer = super().send_manifest(repository, version, manifest)
        self.delete(Reference(self.host, repository, digest=manifest.digest))
        return answer


class CleanedUpAfterwards(OciRegistry):
    """The real registry, in which it goes right after its tag was read back."""

    def tag(self, reference: Reference, tag: str) -> None:
        super().tag(reference, tag)
        self.delete(reference)


def while_it_is_cleaned_up(session: BuildSession, registry: type[OciRegistry] = CleanedUpMeanwhile) -> BuildSession:
    backends = dataclasses.replace(session.backends, staging=registry(session.backends.staging.host))
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


def while_the_cleanup_deletes(session: BuildSession, name: str, cleaned_up: BuildSession) -> StagedImage:
    """Stage an image while another build is cleaned up that has the same one, and has seen no other tag of it."""
    tag = session.staging_reference(session.image(name))
    registry = TakenOverAtLast(session.backends.staging.host)

    def stage_and_wait_for_its_tag() -> None:
        staged.append(pool.submit(staging.stage, session, name, print))
        until = time.monotonic() + 60
        while registry.digest(tag) is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1)  # a build that does not look has read its digest back by now

    staged: list[Future[StagedImage]] = []
    registry.happens = stage_and_wait_for_its_tag
    with ThreadPoolExecutor(1) as pool:
        backends = dataclasses.replace(session.backends, staging=registry)
        assert cleanup(cleaned_up.number, backends, "failed").clean
        after = staged[0].result()
    assert after.built_in == session.number
    assert session.backends.staging.digest(tag) == after.digest
    return after


def test_an_image_that_is_reused_after_the_last_look_of_a_cleanup_is_built_again(
    new_session: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    name = image_repository.image("apps/other")
    earlier, session = new_session("apps/other"), new_session("apps/other")
    passed_before(earlier, staging.stage(earlier, name, print))
    while_the_cleanup_deletes(session, name, earlier)


def test_an_image_that_is_pushed_after_the_last_look_of_a_cleanup_is_pushed_again(
    new_session: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    """The build that is cleaned up has pushed the same image, from the same commit."""
    name = image_repository.image("apps/other")
    earlier, session = new_session("apps/other"), new_session("apps/other")
    before = staging.stage(earlier, name, print)
    assert while_the_cleanup_deletes(session, name, earlier).digest == before.digest


def test_the_labels_of_an_image_are_the_same_in_every_build_of_a_commit(
    new_session: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    name = image_repository.image("apps/other")
    found = []
    for _ in range(2):
        session = new_session("apps/other", commit="HEAD", force=True)
        staged = staging.stage(session, name, print)
        found.append(session.backends.staging.config(staging.staged_by_digest(session, staged))["config"]["Labels"])
    assert found[0] == found[1]
    assert found[0]["org.opencontainers.image.revision"] == session.source.commit
    created = datetime.fromisoformat(found[0]["org.opencontainers.image.created"])
    assert created.timestamp() == session.source.committed


def test_files_of_the_context_are_of_the_commit_and_what_an_earlier_commit_made_is_taken_from_the_cache(
    new_session: Callable[..., BuildSession],
    image_repository: ImageRepository,
    client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, folder = image_repository.image("tools/shell"), image_repository.folder("tools/shell")
    said: list[str] = []

    def made() -> tuple[BuildSession, str]:
        session = new_session("tools/shell", commit="HEAD")
        staged = staging.stage(session, name, said.append)
        reference = str(staging.staged_by_digest(session, staged))
        try:
            return session, client.containers.run(reference, ["stat", "-c", "%Y", "/greeting"], remove=True).decode()
        finally:
            client.images.remove(reference)

    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-01-01T01:01:01Z")
    (folder / "greeting").write_text(uuid.uuid4().hex)
    image_repository.commit("another greeting")
    session, time_of_file = made()
    assert int(time_of_file) == session.source.committed
    with (folder / "Dockerfile").open("a") as file:
        file.write("ENV MORE=1\n")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2002-02-02T02:02:02Z")
    image_repository.commit("a line more")
    said.clear()
    later, time_of_file = made()
    assert int(time_of_file) == session.source.committed != later.source.committed
    assert any("CACHED" in line for line in said)


@pytest.mark.parametrize("is_fixed", [False, True])
def test_files_of_an_image_that_is_to_be_the_same_again_have_one_time_in_all_commits(
    new_session: Callable[..., BuildSession],
    image_repository: ImageRepository,
    monkeypatch: pytest.MonkeyPatch,
    is_fixed: bool,
) -> None:
    folder, times = image_repository.folder("tools/shell"), set()
    (folder / "image.json").write_text(json.dumps({"rewrite_timestamp": is_fixed}))

    def look(session: BuildSession, recipe: Recipe, request: BuildRequest, log: LogLine) -> NoReturn:
        with tarfile.open(request.context) as tar:
            times.update(member.mtime for member in tar)
        raise BuildFailed("seen", where="")

    monkeypatch.setattr(staging, "_push", look)
    for date in ("2001-01-01T01:01:01Z", "2002-02-02T02:02:02Z"):
        monkeypatch.setenv("GIT_COMMITTER_DATE", date)
        (folder / "greeting").write_text(date)
        image_repository.commit("another greeting")
        with pytest.raises(BuildFailed, match="seen"):
            staging.stage(new_session("tools/shell", commit="HEAD"), image_repository.image("tools/shell"), print)
    assert len(times) == (1 if is_fixed else 2)
    assert min(times) > datetime(1980, 1, 1, 23, tzinfo=UTC).timestamp(), "which zip files can have everywhere"


@pytest.mark.parametrize("registry", [CleanedUpMeanwhile, CleanedUpAfterwards])
def test_an_image_that_goes_while_it_is_reused_is_not_in_staging(
    new_session: Callable[..., BuildSession], image_repository: ImageRepository, registry: type[OciRegistry]
) -> None:
    name = image_repository.image("apps/other")
    earlier = new_session("apps/other")
    staging.stage(earlier, name, print)
    session = while_it_is_cleaned_up(new_session("apps/other"), registry)
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
