"""Cleaning up a build, against the real registry and the real engine."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.builds.housekeeping.cleanup import (
    CleanupReport,
    anything_left,
    cleanup,
    read_report,
    staged_references,
)
from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.oci import OciRegistry
from tests.indexes import push_index
from tests.records import begun_release, build_record, staged_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import StagedImage
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

# Of this process alone: a cleanup without a record looks for its build in the whole registry.
BUILD, OTHER = (f"20261123.{uuid.uuid4().hex[:8]}" for _ in range(2))


@pytest.fixture
def stage(
    image_repository: ImageRepository, push_new_image: Callable[[str, str], Reference]
) -> Callable[[str, str], Reference]:
    """Pushes something new as an image of a build."""

    def push(image: str, build: str) -> Reference:
        family, name = image_repository.image(image).split("/")
        return push_new_image(family, f"{name}--{build}")

    return push


def begin(backends: Backends, image_repository: ImageRepository, *images: str, build: str = BUILD) -> None:
    names = tuple(map(image_repository.image, images))
    backends.artifacts.build(build).write_build(build_record(build, images=names, created=datetime.now(UTC)))


def staged_record(image: str, pushed: Reference) -> StagedImage:
    return staged_image(image, BUILD, reference=str(tag_of(pushed)), digest=pushed.digest)


def interrupted_cleanup(backends: Backends, monkeypatch: pytest.MonkeyPatch, **staging: Callable[..., None]) -> None:
    """A cleanup that ends within one of these methods of the registry."""
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        for name, method in staging.items():
            patched.setattr(backends.staging, name, method)
        cleanup(BUILD, backends, "failed")


def outcomes(report: CleanupReport) -> dict[str, str]:
    return {row.name: row.outcome for row in report.rows}


def tag_of(reference: Reference) -> Reference:
    return dataclasses.replace(reference, digest="")


@pytest.mark.parametrize("begun", [True, False])
def test_every_staged_image_goes(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference], begun: bool
) -> None:
    """Also of a build that pushed without having written that it began: an orphan of a crashed worker."""
    if begun:
        begin(backends, image_repository, "tools/shell", "apps/other")
    pushed = [stage("tools/shell", BUILD), stage("apps/other", BUILD)]
    report = cleanup(BUILD, backends, "failed")
    assert report.clean
    assert outcomes(report) == {str(tag_of(reference)): "removed" for reference in pushed}
    for reference in pushed:
        assert backends.staging.digest(tag_of(reference)) is None
        assert backends.staging.digest(reference.with_digest(reference.digest)) is None
    assert list(staged_references(BUILD, backends)) == []


def test_twice_is_fine_and_says_so(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    stage("apps/other", BUILD)
    assert cleanup(BUILD, backends, "failed").clean
    again = cleanup(BUILD, backends, "failed")
    assert (again.clean, again.rows) == (True, ()), "it tells what it has done now"
    story = read_report(backends.artifacts.build(BUILD))
    assert story is not None
    assert [row.kind for row in story.rows] == ["staged image"], "the file tells of all"
    record = backends.artifacts.build(BUILD).read_build()
    assert record is not None
    assert record.status == "failed"


def test_a_build_that_never_was(backends: Backends) -> None:
    report = cleanup("20200101.00000000", backends, "canceled")
    assert (report.build, report.rows, report.clean) == ("20200101.00000000", (), True)
    assert not backends.artifacts.build("20200101.00000000").root.exists()


def test_a_digest_that_another_build_took_over_stays(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    reused = pushed.with_tag(pushed.tag.replace(BUILD, OTHER))
    backends.staging.tag(pushed.with_digest(pushed.digest), reused.tag)
    report = cleanup(BUILD, backends, "failed")
    assert report.clean
    assert outcomes(report) == {str(tag_of(pushed)): "digest kept, tag removed"}
    assert backends.staging.digest(tag_of(pushed)) is None
    assert backends.staging.digest(reused) == pushed.digest
    # and the last one takes the image with it
    assert outcomes(cleanup(OTHER, backends, "failed")) == {str(reused): "removed"}
    assert backends.staging.digest(pushed.with_digest(pushed.digest)) is None


def test_a_digest_that_a_person_has_tagged_stays(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    backends.staging.tag(pushed.with_digest(pushed.digest), "keep")
    report = cleanup(BUILD, backends, "failed")
    assert report.clean
    assert backends.staging.digest(tag_of(pushed)) is None
    assert backends.staging.digest(pushed.with_tag("keep")) == pushed.digest


def test_two_tags_of_the_build_for_one_digest_both_go(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other", "apps/hello")
    pushed = stage("apps/other", BUILD)
    backends.staging.tag(pushed.with_digest(pushed.digest), f"hello--{BUILD}")
    assert cleanup(BUILD, backends, "failed").clean
    assert list(backends.staging.tags(pushed.repository)) == []
    assert backends.staging.digest(pushed.with_digest(pushed.digest)) is None


class Together(OciRegistry):
    """The real registry; two who untag something wait for each other before they do."""

    barrier = threading.Barrier(2)

    def untag(self, reference: Reference) -> None:
        self.barrier.wait(20)
        super().untag(reference)


def test_two_builds_that_share_a_digest_and_are_cleaned_up_at_once(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    """Each sees the tag of the other before either is gone; still, the image does not stay without a tag."""
    for build in (BUILD, OTHER):
        begin(backends, image_repository, "apps/other", build=build)
    pushed = stage("apps/other", BUILD)
    backends.staging.tag(pushed.with_digest(pushed.digest), pushed.tag.replace(BUILD, OTHER))
    together = dataclasses.replace(backends, staging=Together(backends.staging.host))
    with ThreadPoolExecutor() as pool:
        reports = list(pool.map(lambda build: cleanup(build, together, "failed"), (BUILD, OTHER)))
    assert all(report.clean for report in reports), reports
    assert backends.staging.tags(pushed.repository) == []
    assert backends.staging.digest(pushed.with_digest(pushed.digest)) is None


class TakenOver(OciRegistry):
    """The real registry, in which another build takes an image over: before its tag goes, or after it has gone."""

    after = False
    theirs = ""

    def untag(self, reference: Reference) -> None:
        self.theirs = reference.tag.replace(BUILD, OTHER)
        if not self.after:
            self.tag(reference, self.theirs)
        super().untag(reference)

    def config(self, reference: Reference) -> Mapping[str, Any]:
        if self.after:
            self.tag(reference, self.theirs)
        return super().config(reference)


@pytest.mark.parametrize("after", [False, True])
def test_an_image_that_is_reused_during_the_cleanup_stays(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference], after: bool
) -> None:
    begin(backends, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    registry = TakenOver(backends.staging.host)
    registry.after = after
    assert cleanup(BUILD, dataclasses.replace(backends, staging=registry), "failed").clean
    assert backends.staging.digest(tag_of(pushed)) is None
    assert backends.staging.digest(pushed.with_tag(pushed.tag.replace(BUILD, OTHER))) == pushed.digest


def test_an_image_that_a_killed_cleanup_has_left_without_a_tag_goes(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    backends.artifacts.build(BUILD).write_staged(staged_record(image_repository.image("apps/other"), pushed))
    backends.staging.untag(tag_of(pushed))
    report = cleanup(BUILD, backends, "failed")
    assert outcomes(report) == {str(pushed.with_digest(pushed.digest)): "removed"}
    assert backends.staging.digest(pushed.with_digest(pushed.digest)) is None


def test_an_image_without_a_record_whose_cleanup_ends_after_its_tag_is_gone_goes(
    backends: Backends,
    image_repository: ImageRepository,
    stage: Callable[[str, str], Reference],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step that has pushed it was ended before it wrote `staged.json`."""
    begin(backends, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    untag = backends.staging.untag

    def end(reference: Reference) -> None:
        untag(reference)
        raise KeyboardInterrupt

    interrupted_cleanup(backends, monkeypatch, untag=end)
    assert there(backends, [pushed]) == [True]
    assert anything_left(BUILD, backends)
    assert cleanup(BUILD, backends, "failed").clean
    assert there(backends, [pushed]) == [False]
    assert not anything_left(BUILD, backends)


def test_an_image_under_another_tag_is_not_taken_for_one_without(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    backends.artifacts.build(BUILD).write_staged(staged_record(image_repository.image("apps/other"), pushed))
    backends.staging.tag(pushed.with_digest(pushed.digest), pushed.tag.replace(BUILD, OTHER))
    for _ in range(2):
        assert cleanup(BUILD, backends, "failed").clean
    assert backends.staging.digest(pushed.with_tag(pushed.tag.replace(BUILD, OTHER))) == pushed.digest


class Publishing:
    """The real runner, on whose canceling the build is published: it had looked at its record just before."""

    def __init__(self, backends: Backends) -> None:
        self._runner, self._folder = backends.runner, backends.artifacts.build(BUILD)
        self._record = self._folder.read_build()

    def cancel(self, build: str) -> list[str]:
        assert self._record is not None
        write_atomically(self._folder.root / "release.json", b"{}")
        self._folder.write_build(self._record.model_copy(update={"status": "succeeded"}))
        return self._runner.cancel(build)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)


def test_a_build_that_is_published_meanwhile_is_cleaned_up_all_the_same(
    backends: Backends, image_repository: ImageRepository
) -> None:
    begin(backends, image_repository, "apps/other")
    report = cleanup(BUILD, dataclasses.replace(backends, runner=Publishing(backends)), "canceled")
    assert report.clean
    folder = backends.artifacts.build(BUILD)
    record = folder.read_build()
    assert record is not None
    assert record.status == "canceled"
    assert not (folder.root / "release.json").exists()


def test_other_builds_are_left_alone(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    mine, theirs = stage("apps/other", BUILD), stage("apps/other", OTHER)
    longer = stage("apps/other", f"{BUILD}0")
    cleanup(BUILD, backends, "failed")
    assert backends.staging.digest(tag_of(mine)) is None
    assert backends.staging.digest(tag_of(theirs)) == theirs.digest
    assert backends.staging.digest(tag_of(longer)) == longer.digest


def test_release_files_go_and_the_report_is_kept(backends: Backends, image_repository: ImageRepository) -> None:
    begin(backends, image_repository, "apps/other")
    folder = backends.artifacts.build(BUILD)
    for path in ("release.json", "import.cfg", "drop/SHA256SUMS", "images/apps/other/logs/a.log"):
        write_atomically(folder.root / path, b"{}")
    report = cleanup(BUILD, backends, "canceled")
    assert outcomes(report) == dict.fromkeys(("release.json", "import.cfg", "drop"), "removed")
    assert CleanupReport.model_validate_json((folder.root / "cleanup.json").read_text()) == report
    assert (folder.root / "images/apps/other/logs/a.log").exists()


def test_a_record_that_cannot_be_read_does_not_keep_the_images(
    backends: Backends, stage: Callable[[str, str], Reference]
) -> None:
    (backends.artifacts.build(BUILD).root / "build.json").mkdir(parents=True)
    pushed = stage("apps/other", BUILD)
    report = cleanup(BUILD, backends, "failed")
    assert backends.staging.digest(tag_of(pushed)) is None
    assert not report.clean
    assert [(row.kind, row.outcome) for row in report.rows] == [("record", "left"), ("staged image", "removed")]
    assert "build.json" in report.rows[0].detail


def test_a_damaged_record_is_made_again(backends: Backends, stage: Callable[[str, str], Reference]) -> None:
    write_atomically(backends.artifacts.build(BUILD).root / "build.json", b"{")
    pushed = stage("apps/other", BUILD)
    report = cleanup(BUILD, backends, "canceled")
    assert report.clean
    assert outcomes(report) == {"build.json": "repaired", str(tag_of(pushed)): "removed"}
    record = backends.artifacts.build(BUILD).read_build()
    assert record is not None
    assert record.status == "failed"


class Stubborn(OciRegistry):
    """The real registry, which refuses to delete one image."""

    kept = ""

    def delete(self, reference: Reference) -> None:
        if reference.digest == self.kept:
            raise Unreachable("it may not be deleted", where=str(reference))
        super().delete(reference)


def test_one_image_that_cannot_be_removed_does_not_keep_the_others(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/hello", "apps/other", "tools/shell")
    kept, *others = (stage(image, BUILD) for image in ("apps/hello", "apps/other", "tools/shell"))
    stubborn = Stubborn(backends.staging.host)
    stubborn.kept = kept.digest
    report = cleanup(BUILD, dataclasses.replace(backends, staging=stubborn), "failed")
    assert not report.clean
    assert outcomes(report) == {str(tag_of(kept)): "left"} | {str(tag_of(other)): "removed" for other in others}
    assert "it may not be deleted" in next(row.detail for row in report.rows if row.outcome == "left")
    assert cleanup(BUILD, backends, "failed").clean


def test_a_registry_that_is_down_is_not_clean(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    write_atomically(backends.artifacts.build(BUILD).root / "release.json", b"{}")
    down = dataclasses.replace(backends, staging=OciRegistry("127.0.0.1:9"))
    report = cleanup(BUILD, down, "failed")
    assert not report.clean
    assert [(row.kind, row.outcome) for row in report.rows] == [
        ("release file", "removed"),
        ("staged image", "left"),
    ]
    assert "127.0.0.1:9" in report.rows[1].detail


def cleanup_command(image_repository: ImageRepository, **environment: str) -> tuple[int, Any]:
    done = image_repository.run("cleanup", BUILD, "--json", **environment)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_command(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    code, report = cleanup_command(image_repository, AML_IMAGES_STAGING_REGISTRY="127.0.0.1:9")
    assert code == 1
    assert report["clean"] is False
    code, report = cleanup_command(image_repository)
    assert code == 0
    assert (report["build"], report["clean"]) == (BUILD, True)
    assert report["rows"] == [{"kind": "staged image", "name": str(tag_of(pushed)), "outcome": "removed", "detail": ""}]
    refused = image_repository.run("cleanup", "latest")
    assert refused.returncode == 2
    assert "`latest` is only for commands that change nothing" in refused.stderr


def test_the_command_asks_before_a_build_that_has_succeeded_goes(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    backends.artifacts.build(BUILD).finish("succeeded")
    pushed = stage("apps/other", BUILD)
    refused = image_repository.run("cleanup", BUILD)
    assert refused.returncode == 2
    for text in (BUILD, "which has succeeded", image_repository.image("apps/other"), "--yes"):
        assert text in refused.stderr
    assert backends.staging.digest(tag_of(pushed)) == pushed.digest
    assert image_repository.run("cleanup", BUILD, "--yes").returncode == 0
    assert backends.staging.digest(tag_of(pushed)) is None


def test_the_command_knows_no_build_of_this_number(image_repository: ImageRepository) -> None:
    refused = image_repository.run("cleanup", "20200101.00000000")
    assert refused.returncode == 2
    assert "there is no build '20200101.00000000', and no staged image of one" in refused.stderr


@pytest.mark.parametrize("is_claimed", [True, False])
def test_the_command_refuses_a_build_that_is_released_unless_forced(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference], is_claimed: bool
) -> None:
    begin(backends, image_repository, "apps/other")
    backends.artifacts.build(BUILD).finish("succeeded")
    pushed = stage("apps/other", BUILD)
    if is_claimed:
        backends.artifacts.build(BUILD).decide("released")
    else:
        Ledger(backends.artifacts).append(begun_release(BUILD))
    refused = image_repository.run("cleanup", BUILD, "--yes")
    assert refused.returncode == 2
    assert "it is released or being released" in refused.stderr
    assert "--force" in refused.stderr
    assert backends.staging.digest(tag_of(pushed)) == pushed.digest
    assert image_repository.run("cleanup", BUILD, "--force").returncode == 0
    assert backends.staging.digest(tag_of(pushed)) is None


def test_the_command_removes_a_build_whose_release_died_before_its_first_record(
    backends: Backends, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(backends, image_repository, "apps/other")
    folder = backends.artifacts.build(BUILD)
    folder.finish("succeeded")
    pushed = stage("apps/other", BUILD)
    folder.decide("released")
    long_ago = time.time() - 2 * 60 * 60
    os.utime(str(folder.root / "outcome.json"), (long_ago, long_ago))
    assert "was not released" in image_repository.run("cleanup", BUILD).stderr
    assert image_repository.run("cleanup", BUILD, "--yes").returncode == 0
    assert backends.staging.digest(tag_of(pushed)) is None


@pytest.fixture
def stage_index(
    image_repository: ImageRepository, staging: OciRegistry, push_new_image: Callable[[str, str], Reference]
) -> Callable[[str, str], list[Reference]]:
    """Pushes an index of two new images as an image of a build; by digest, the index first."""

    def push(image: str, build: str) -> list[Reference]:
        family, name = image_repository.image(image).split("/")
        images = {}
        for platform in ("linux/amd64", "linux/arm64"):
            pushed = push_new_image(family, "part")
            images[platform] = pushed.with_digest(pushed.digest)
        staging.untag(Reference(staging.host, family, "part"))
        index = push_index(staging, images, Reference(staging.host, family, f"{name}--{build}"))
        return [index, *images.values()]

    return push


def there(backends: Backends, references: list[Reference]) -> list[bool]:
    return [backends.staging.digest(reference) is not None for reference in references]


def test_an_index_goes_with_all_its_images(
    backends: Backends, image_repository: ImageRepository, stage_index: Callable[[str, str], list[Reference]]
) -> None:
    begin(backends, image_repository, "tools/shell")
    pushed = stage_index("tools/shell", BUILD)
    assert cleanup(BUILD, backends, "failed").clean
    assert there(backends, pushed) == [False, False, False]


def test_an_index_that_another_build_reuses_stays_with_its_images(
    backends: Backends, image_repository: ImageRepository, stage_index: Callable[[str, str], list[Reference]]
) -> None:
    begin(backends, image_repository, "tools/shell")
    pushed = stage_index("tools/shell", BUILD)
    name = image_repository.image("tools/shell").partition("/")[2]
    backends.staging.tag(pushed[0], f"{name}--{OTHER}")
    assert set(outcomes(cleanup(BUILD, backends, "failed")).values()) == {"digest kept, tag removed"}
    assert there(backends, pushed) == [True, True, True]
    begin(backends, image_repository, "tools/shell", build=OTHER)
    assert cleanup(OTHER, backends, "failed").clean
    assert there(backends, pushed) == [False, False, False]


@pytest.mark.parametrize("how", ["a tag", "another index"])
def test_an_image_of_an_index_that_has_another_use_stays(
    backends: Backends,
    image_repository: ImageRepository,
    staging: OciRegistry,
    stage_index: Callable[[str, str], list[Reference]],
    how: str,
) -> None:
    begin(backends, image_repository, "tools/shell")
    pushed = stage_index("tools/shell", BUILD)
    _, amd64, arm64 = pushed
    if how == "a tag":
        staging.tag(arm64, "of-a-person")
    else:
        push_index(staging, {"linux/arm64": arm64}, arm64.with_tag("of-a-person"))
    assert cleanup(BUILD, backends, "failed").clean
    assert there(backends, [*pushed[:1], amd64, arm64]) == [False, False, True]


def test_images_of_an_index_whose_push_ended_before_it_go(
    backends: Backends, image_repository: ImageRepository, stage_index: Callable[[str, str], list[Reference]]
) -> None:
    """They have no tag; the step has written down that it was about to push them."""
    begin(backends, image_repository, "tools/shell")
    index, *parts = stage_index("tools/shell", OTHER)
    for part in parts:
        backends.artifacts.build(BUILD).write_untagged(image_repository.image("tools/shell"), part.digest)
    assert cleanup(BUILD, backends, "failed").rows == (), "another build has them in its index"
    assert there(backends, parts) == [True, True]
    backends.staging.delete(index)
    assert anything_left(BUILD, backends)
    report = cleanup(BUILD, backends, "failed")
    assert outcomes(report) == {str(part): "removed" for part in parts}
    assert there(backends, parts) == [False, False]
    assert not anything_left(BUILD, backends)


def test_images_of_an_index_that_another_build_pushes_meanwhile_stay(
    backends: Backends,
    image_repository: ImageRepository,
    staging: OciRegistry,
    stage_index: Callable[[str, str], list[Reference]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A build of the same commit finds them in the registry, and pushes no more than the index."""
    begin(backends, image_repository, "tools/shell")
    image = image_repository.image("tools/shell")
    index, *parts = stage_index("tools/shell", OTHER)
    manifest = staging.existing(index)
    staging.delete(index)
    for part in parts:
        backends.artifacts.build(BUILD).write_untagged(image, part.digest)

    def push_the_index(*_: object) -> None:
        assert any(backends.artifacts.is_being_deleted(part.digest) for part in parts)
        staging.put_manifest(index.repository, f"{image.partition('/')[2]}--{OTHER}", manifest)

    monkeypatch.setattr("aml_images_dagster.builds.housekeeping.cleanup.forget", push_the_index)
    assert cleanup(BUILD, backends, "failed").clean
    assert there(backends, [index, *parts]) == [True, True, True]


def test_a_cleanup_that_ends_between_an_index_and_its_images_is_completed_by_the_next(
    backends: Backends,
    image_repository: ImageRepository,
    stage_index: Callable[[str, str], list[Reference]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin(backends, image_repository, "tools/shell")
    pushed = stage_index("tools/shell", BUILD)
    delete = backends.staging.delete

    def stop(reference: Reference) -> None:
        if reference.digest != pushed[0].digest:
            raise KeyboardInterrupt
        delete(reference)

    interrupted_cleanup(backends, monkeypatch, delete=stop)
    assert there(backends, pushed) == [False, True, True]
    assert cleanup(BUILD, backends, "failed").clean
    assert there(backends, pushed) == [False, False, False]
