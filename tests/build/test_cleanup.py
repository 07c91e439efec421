"""Taking a build back, against the real registry and the real engine."""

from __future__ import annotations

import dataclasses
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.build.artifacts import write_atomically
from aml_images_dagster.build.cleanup import CleanupReport, cleanup, staged_references
from aml_images_dagster.build.records import BuildRecord
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.oci import OciRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.build.parts import Parts
    from aml_images_dagster.catalog.reference import Reference
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

# Of this process alone: a clean-up without a record looks for its build in the whole registry.
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


def begin(parts: Parts, image_repository: ImageRepository, *images: str, build: str = BUILD) -> None:
    parts.artifacts.build(build).write_build(
        BuildRecord(
            build=build,
            run_id="aaaaaaaa",
            status="running",
            commit="",
            source="",
            created=datetime.now(UTC),
            release_tag="v1",
            images=tuple(map(image_repository.image, images)),
        )
    )


def outcomes(report: CleanupReport) -> dict[str, str]:
    return {row.name: row.outcome for row in report.rows}


def tag_of(reference: Reference) -> Reference:
    return dataclasses.replace(reference, digest="")


@pytest.mark.parametrize("begun", [True, False])
def test_every_staged_image_goes(
    parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference], begun: bool
) -> None:
    """Also of a build that pushed without having written that it began: an orphan of a crashed worker."""
    if begun:
        begin(parts, image_repository, "tools/shell", "apps/other")
    pushed = [stage("tools/shell", BUILD), stage("apps/other", BUILD)]
    report = cleanup(BUILD, parts, "failed")
    assert report.clean
    assert outcomes(report) == {str(tag_of(reference)): "removed" for reference in pushed}
    for reference in pushed:
        assert parts.staging.digest(tag_of(reference)) is None
        assert parts.staging.digest(reference.with_digest(reference.digest)) is None
    assert list(staged_references(BUILD, parts)) == []


def test_twice_is_fine_and_says_so(
    parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(parts, image_repository, "apps/other")
    stage("apps/other", BUILD)
    assert cleanup(BUILD, parts, "failed").clean
    again = cleanup(BUILD, parts, "failed")
    assert again.clean
    assert "left" not in outcomes(again).values()
    record = parts.artifacts.build(BUILD).read_build()
    assert record is not None
    assert record.status == "failed"


def test_a_build_that_never_was(parts: Parts) -> None:
    report = cleanup("20200101.00000000", parts, "canceled")
    assert (report.build, report.rows, report.clean) == ("20200101.00000000", (), True)
    assert not parts.artifacts.build("20200101.00000000").root.exists()


def test_a_digest_that_another_build_took_over_stays(
    parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(parts, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    taken_over = pushed.with_tag(pushed.tag.replace(BUILD, OTHER))
    parts.staging.tag(pushed.with_digest(pushed.digest), taken_over.tag)
    report = cleanup(BUILD, parts, "failed")
    assert report.clean
    assert outcomes(report) == {str(tag_of(pushed)): "digest kept, tag removed"}
    assert parts.staging.digest(tag_of(pushed)) is None
    assert parts.staging.digest(taken_over) == pushed.digest
    # and the last one takes the image with it
    assert outcomes(cleanup(OTHER, parts, "failed")) == {str(taken_over): "removed"}
    assert parts.staging.digest(pushed.with_digest(pushed.digest)) is None


def test_a_digest_that_a_person_has_tagged_stays(
    parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(parts, image_repository, "apps/other")
    pushed = stage("apps/other", BUILD)
    parts.staging.tag(pushed.with_digest(pushed.digest), "keep")
    report = cleanup(BUILD, parts, "failed")
    assert report.clean
    assert parts.staging.digest(tag_of(pushed)) is None
    assert parts.staging.digest(pushed.with_tag("keep")) == pushed.digest


def test_two_tags_of_the_build_for_one_digest_both_go(
    parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(parts, image_repository, "apps/other", "apps/hello")
    pushed = stage("apps/other", BUILD)
    parts.staging.tag(pushed.with_digest(pushed.digest), f"hello--{BUILD}")
    assert cleanup(BUILD, parts, "failed").clean
    assert list(parts.staging.tags(pushed.repository)) == []
    assert parts.staging.digest(pushed.with_digest(pushed.digest)) is None


def test_other_builds_are_left_alone(
    parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(parts, image_repository, "apps/other")
    mine, theirs = stage("apps/other", BUILD), stage("apps/other", OTHER)
    longer = stage("apps/other", f"{BUILD}0")
    cleanup(BUILD, parts, "failed")
    assert parts.staging.digest(tag_of(mine)) is None
    assert parts.staging.digest(tag_of(theirs)) == theirs.digest
    assert parts.staging.digest(tag_of(longer)) == longer.digest


def test_release_files_go_and_the_report_is_kept(parts: Parts, image_repository: ImageRepository) -> None:
    begin(parts, image_repository, "apps/other")
    folder = parts.artifacts.build(BUILD)
    for path in ("release.json", "import.cfg", "drop/SHA256SUMS", "images/apps/other/logs/a.log"):
        write_atomically(folder.root / path, b"{}")
    report = cleanup(BUILD, parts, "canceled")
    assert outcomes(report) == dict.fromkeys(("release.json", "import.cfg", "drop"), "removed")
    assert CleanupReport.model_validate_json((folder.root / "cleanup.json").read_text()) == report
    assert (folder.root / "images/apps/other/logs/a.log").exists()


@pytest.mark.parametrize("damage", ["not JSON", "cannot be read"])
def test_a_damaged_record_does_not_keep_the_images(
    parts: Parts, stage: Callable[[str, str], Reference], damage: str
) -> None:
    record = parts.artifacts.build(BUILD).root / "build.json"
    if damage == "not JSON":
        write_atomically(record, b"{")
    else:
        record.mkdir(parents=True)
    pushed = stage("apps/other", BUILD)
    report = cleanup(BUILD, parts, "failed")
    assert parts.staging.digest(tag_of(pushed)) is None
    assert not report.clean
    assert [(row.kind, row.outcome) for row in report.rows] == [("record", "left"), ("staged image", "removed")]
    assert "build.json" in report.rows[0].detail


class Stubborn(OciRegistry):
    """The real registry, which refuses to delete one image."""

    kept = ""

    def delete(self, reference: Reference) -> None:
        if reference.digest == self.kept:
            raise Unreachable("it may not be deleted", where=str(reference))
        super().delete(reference)


def test_one_image_that_cannot_be_removed_does_not_keep_the_others(
    parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(parts, image_repository, "apps/hello", "apps/other", "tools/shell")
    kept, *others = (stage(image, BUILD) for image in ("apps/hello", "apps/other", "tools/shell"))
    stubborn = Stubborn(parts.staging.host)
    stubborn.kept = kept.digest
    report = cleanup(BUILD, dataclasses.replace(parts, staging=stubborn), "failed")
    assert not report.clean
    assert outcomes(report) == {str(tag_of(kept)): "left"} | {str(tag_of(other)): "removed" for other in others}
    assert "it may not be deleted" in next(row.detail for row in report.rows if row.outcome == "left")
    assert cleanup(BUILD, parts, "failed").clean


def test_a_registry_that_is_down_is_not_clean(
    parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference]
) -> None:
    begin(parts, image_repository, "apps/other")
    write_atomically(parts.artifacts.build(BUILD).root / "release.json", b"{}")
    down = dataclasses.replace(parts, staging=OciRegistry("127.0.0.1:9"))
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


def test_the_command(parts: Parts, image_repository: ImageRepository, stage: Callable[[str, str], Reference]) -> None:
    begin(parts, image_repository, "apps/other")
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
    assert "'latest' is not a build number" in refused.stderr
