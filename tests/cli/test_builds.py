"""`builds` and `status`, from the records that builds have written."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, get_args

import pytest

from aml_images_dagster.builds.artifacts import Artifacts, BuildFolder
from aml_images_dagster.builds.records import (
    BaseImage,
    BuildStatus,
    JobRecord,
    ScenarioRecord,
    TestedImage,
)
from tests.records import DIGEST, KEY, NOW, build_record, staged_image

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository

EARLIER, LATER = "20261122.bbbbbbbb", "20261123.aaaaaaaa"


@pytest.fixture
def repository(repository: ImageRepository) -> ImageRepository:
    """With two builds: one that succeeded, and one that was canceled after its first image."""
    artifacts = Artifacts(str(repository.artifacts))
    for number, days, status in ((EARLIER, 1, "succeeded"), (LATER, 0, "canceled")):
        folder = artifacts.build(number)
        folder.write_build(
            build_record(
                number,
                status=status,
                commit="abc-dirty",
                created=NOW - timedelta(days=days),
                trigger="command line",
                images=("apps/other", "tools/shell"),
            )
        )
        folder.write_staged(
            staged_image(
                "apps/other",
                number,
                size_bytes=2_500_000,
                layers=2,
                seconds=1.5,
                reasons=("modified: a [/b] c",),
                bases=(BaseImage(reference="busybox", digest=DIGEST),),
                built_in=EARLIER,
                dockerfile="FROM busybox\n",
            )
        )
    scenario = ScenarioRecord(
        scenario="runs", key="k", job="job-1", status="passed", seconds=2.5, reason="", url="", tested_in=EARLIER
    )
    folder = artifacts.build(EARLIER)
    folder.write_tested(TestedImage(image="apps/other", digest=DIGEST, scenarios=(scenario,)))
    folder.write_job(
        JobRecord(
            job="job-1",
            build=EARLIER,
            image="apps/other",
            scenario="runs",
            attempt=1,
            place="here",
            reference=f"staging.example/apps@{DIGEST}",
            status="passed",
            submitted=NOW,
        )
    )
    return repository


def test_builds_newest_first(repository: ImageRepository) -> None:
    assert repository.json("builds") == [
        {
            "build": number,
            "status": status,
            "commit": "abc-dirty",
            "trigger": "command line",
            "pull_request": "",
            "created": created,
            "artifacts": (repository.artifacts / number).as_uri(),
            "images": ["apps/other", "tools/shell"],
        }
        for number, status, created in (
            (LATER, "canceled", "2026-11-23T12:00:00+00:00"),
            (EARLIER, "succeeded", "2026-11-22T12:00:00+00:00"),
        )
    ]
    shown = repository.run("builds", COLUMNS="200").stdout
    assert shown.index(LATER) < shown.index(EARLIER)
    assert "abc-dirty" in shown


def test_status_for_programs(repository: ImageRepository) -> None:
    found = repository.json("status", EARLIER)
    assert found["build"] == EARLIER
    assert found["status"] == "succeeded"
    assert found["release_tag"] == "20261123.v1"
    assert found["artifacts"] == (repository.artifacts / EARLIER).as_uri()
    other, shell = found["images"]
    assert other["image"] == "apps/other"
    assert other["staged"]["digest"] == DIGEST
    assert other["staged"]["bases"] == [{"reference": "busybox", "digest": DIGEST}]
    assert other["content_key"] == KEY.digest
    assert other["reused"] is False
    assert [test["scenario"] for test in other["tests"]] == ["runs"]
    assert shell == {"image": "tools/shell", "staged": None, "content_key": None, "reused": None, "tests": None}
    assert [job["job"] for job in found["jobs"]] == ["job-1"]
    assert repository.json("status", LATER)["images"][0]["reused"] is True


def test_status_for_people(repository: ImageRepository) -> None:
    shown = repository.run("status", EARLIER, COLUMNS="200").stdout
    for text in (
        EARLIER,
        "succeeded",
        "apps/other",
        "2.5 MB",
        "runs passed 2.5 s",
        "modified: a [/b] c",
        "tools/shell",
    ):
        assert text in shown
    assert f"reused from {EARLIER}" in repository.run("status", LATER, COLUMNS="200").stdout


def test_a_build_of_a_pull_request_says_so(repository: ImageRepository) -> None:
    folder = rewrite(repository, "partial", trigger="pull request", pull_request="12")
    (shown, other) = repository.json("builds")
    assert (shown["trigger"], shown["pull_request"]) == ("pull request", "12")
    assert (other["trigger"], other["pull_request"]) == ("command line", "")
    found = repository.json("status", LATER)
    assert (found["trigger"], found["pull_request"]) == ("pull request", "12")
    for command in (("builds",), ("status", LATER)):
        assert "pull request 12" in repository.run(*command, COLUMNS="200").stdout
    refused = repository.run("release", LATER)
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        f"aml-images: {folder.root}: build {LATER} is for pull request 12, and such builds are never released\n"
    )


def test_builds_of_another_place(repository: ImageRepository) -> None:
    elsewhere = str(repository.root / "elsewhere")
    assert repository.json("builds", AML_IMAGES_ARTIFACTS=elsewhere) == []
    repository.artifacts.rename(elsewhere)
    assert len(repository.json("builds", AML_IMAGES_ARTIFACTS=elsewhere)) == 2
    assert repository.json("builds") == []
    assert len(repository.json("builds", AML_IMAGES_ARTIFACTS="elsewhere")) == 2


def rewrite(repository: ImageRepository, status: BuildStatus, **fields: str) -> BuildFolder:
    """Let the later build be something else."""
    folder = Artifacts(str(repository.artifacts)).build(LATER)
    record = folder.read_build()
    assert record is not None
    folder.write_build(record.model_copy(update={"status": status, **fields}))
    return folder


@pytest.mark.parametrize("status", get_args(BuildStatus))
def test_every_status_is_shown(repository: ImageRepository, status: BuildStatus) -> None:
    rewrite(repository, status)
    for command in (("builds",), ("status", LATER)):
        done = repository.run(*command, COLUMNS="80")
        assert done.returncode == 0, done.stderr
        assert status in done.stdout


@pytest.mark.parametrize(("before", "after"), [("failed", "failed"), ("expired", "expired"), ("running", "canceled")])
def test_a_cleanup_does_not_rewrite_how_a_build_ended(
    repository: ImageRepository, before: BuildStatus, after: BuildStatus
) -> None:
    folder = rewrite(repository, before)
    assert repository.run("cleanup", LATER, DOCKER_HOST="unix:///nowhere.sock").returncode == 1
    record = folder.read_build()
    assert record is not None
    assert record.status == after
