"""The artifacts store, on a disk and in something like a blob store."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from upath import UPath

from aml_images_dagster.builds.artifacts import (
    RELEASE_FILES,
    Artifacts,
    BuildFolder,
    DamagedRecord,
    create_atomically,
    read_whole,
    write_atomically,
)
from aml_images_dagster.builds.process import named
from aml_images_dagster.builds.records import (
    BaseImage,
    BuildFailure,
    BuildRecord,
    JobRecord,
    PassedImage,
    Plan,
    RunInformation,
    StagedImage,
    TestedImage,
)
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import Settings, load_settings
from tests.records import NOW, build_record, staged_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.emulators.azure.blob_storage import BlobStorage

BUILD = "20261123.4f2a9c1e"
KEY = ContentKey(dockerfile="0", files={}, build_args={}, platform="linux/amd64", bases={"debian:12": "sha256:2"})


@pytest.fixture(params=["disk", "memory", "blobs"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    """A folder, a store that knows objects only, and Azure Blob by its SDK."""
    if request.param == "disk":
        return Artifacts(str(tmp_path / "artifacts"))
    if request.param == "memory":
        return Artifacts(f"memory://{uuid.uuid4().hex}/artifacts")
    return backends_for(request.getfixturevalue("blob_settings")).artifacts


@pytest.fixture
def blob_settings(blob_account: BlobStorage, tmp_path: Path) -> Settings:
    """The profile `azure` with its artifacts in a container of an emulated account."""
    blob_account.create("factory")
    return load_settings(repo=tmp_path, artifacts="az://factory/builds/of this")


def record(build: str = BUILD, created: datetime = NOW) -> BuildRecord:
    return build_record(build, created=created, images=("base/a",))


def staged(digest: str = "sha256:1") -> StagedImage:
    return staged_image(
        "base/a",
        BUILD,
        digest=digest,
        reasons=("modified: Dockerfile",),
        content_key=KEY,
        bases=(BaseImage(reference="debian:12", digest="sha256:2"),),
        dockerfile="FROM debian:12\n",
        notices={"/LICENSE.txt": True},
    )


def job(name: str, minutes: int) -> JobRecord:
    return JobRecord(
        job=name,
        build=BUILD,
        image="base/a",
        scenario="s",
        attempt=1,
        place="here",
        reference="r@sha256:1",
        status="submitting",
        submitted=NOW + timedelta(minutes=minutes),
    )


def test_a_record_reads_as_it_was_written(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    assert folder.read_build() is None
    folder.write_build(record())
    assert folder.read_build() == record()
    folder.finish("succeeded")
    assert folder.read_build() == record().model_copy(update={"status": "succeeded"})


def test_a_build_begins_once(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    folder.create_build(record())
    folder.finish("failed")
    with pytest.raises(FileExistsError):
        folder.create_build(record())
    assert folder.read_build() == record().model_copy(update={"status": "failed"})


def test_a_build_that_has_failed_does_not_succeed_any_more(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    folder.write_build(record())
    folder.finish("failed")
    folder.finish("succeeded")
    assert folder.read_build() == record().model_copy(update={"status": "failed"})


def paused(monkeypatch: pytest.MonkeyPatch, folder: BuildFolder, meanwhile: Callable[[], object]) -> None:
    """Something happens after a process has read `build.json`, and before it writes there what it made of it."""
    write = BuildFolder.write_build

    def pause(self: BuildFolder, written: BuildRecord) -> None:
        monkeypatch.setattr(BuildFolder, "write_build", write)
        meanwhile()
        write(self, written)

    monkeypatch.setattr(BuildFolder, "write_build", pause)


def test_success_is_not_written_over_a_failure_whatever_pauses_where(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = artifacts.build(BUILD)
    folder.create_build(record())
    failure = BuildFailure(step="tested", message="it broke")
    paused(monkeypatch, folder, lambda: artifacts.build(BUILD).finish("failed", failure))
    folder.finish("succeeded")
    failed = record().model_copy(update={"status": "failed", "failure": failure})
    assert folder.read_build() == failed
    assert BuildRecord.model_validate_json((folder.root / "build.json").read_bytes()) == failed, "for people"


def test_why_a_build_failed_is_kept_whoever_writes_last(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, failure = artifacts.build(BUILD), BuildFailure(step="tested", message="it broke")
    folder.create_build(record())
    paused(monkeypatch, folder, lambda: artifacts.build(BUILD).finish("failed", failure))
    folder.finish("failed")
    folder.finish("canceled", BuildFailure(step="staged", message="it was stopped"))
    assert folder.read_build() == record().model_copy(update={"status": "failed", "failure": failure})


def test_what_a_build_comes_to_is_decided_once(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    folder.create_build(record())
    folder.finish("succeeded")
    assert folder.decide("released").status == "released"
    assert folder.decide("expired").status == "released"
    folder.finish("failed")
    assert folder.read_build() == record().model_copy(update={"status": "succeeded"})
    folder.overrule("canceled")
    assert folder.read_build() == record().model_copy(update={"status": "canceled"})


def test_of_a_build_of_an_earlier_version_what_build_json_says_counts(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    expired = record().model_copy(update={"status": "expired"})
    folder.write_build(expired)
    assert folder.read_build() == expired
    folder.finish("canceled")
    assert folder.read_build() == expired


def test_an_outcome_that_cannot_be_read_is_not_taken_for_none(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    folder.create_build(record())
    for text in (b"", b"{", b'{"build": "20261123.00000000", "status": "released"}'):
        write_atomically(folder.root / "outcome.json", text)
        with pytest.raises(BadInput, match="outcome") as refused:
            folder.read_build()
        assert not isinstance(refused.value, DamagedRecord), "nobody writes another one in its place"


def test_a_build_that_never_began_is_not_finished(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    folder.finish("failed")
    assert folder.read_build() is None
    assert not folder.root.exists()


def test_builds_newest_first(artifacts: Artifacts) -> None:
    assert list(artifacts.builds()) == []
    numbers = ["20261122.00000001", "20261123.00000002", "20261123.00000001"]
    for hours, number in enumerate(numbers):
        artifacts.build(number).write_build(record(number, NOW + timedelta(hours=hours)))
    (artifacts.root / "passed").mkdir(parents=True, exist_ok=True)
    (artifacts.root / "20261124.00000001").mkdir(parents=True, exist_ok=True)  # staged something, did not begin
    assert [found.build for _, found in artifacts.builds()] == numbers[::-1]
    assert [folder.build for folder, _ in artifacts.builds()] == numbers[::-1]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"build": "x"}', '{"status": "unheard of"}'])
def test_a_damaged_record_is_bad_input(artifacts: Artifacts, text: str) -> None:
    folder = artifacts.build(BUILD)
    write_atomically(folder.root / "build.json", text.encode())
    with pytest.raises(BadInput, match="not a record of this version") as refused:
        folder.read_build()
    assert "build.json" in refused.value.where


def test_bytes_that_are_no_text_are_a_damaged_record(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    write_atomically(folder.root / "build.json", b"\xff\xfe")
    with pytest.raises(BadInput, match="not a record of this version"):
        folder.read_build()


def test_a_record_of_another_version_is_bad_input(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    newer = record().model_dump_json().replace('"build":', '"novelty":1,"build":')
    write_atomically(folder.root / "build.json", newer.encode())
    with pytest.raises(BadInput, match="start a new build"):
        folder.read_build()


def test_a_time_without_a_zone_is_a_damaged_record(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    naive = record().model_dump_json().replace('"2026-11-23T12:00:00Z"', '"2026-11-23T12:00:00"')
    write_atomically(folder.root / "build.json", naive.encode())
    with pytest.raises(BadInput, match="not a record of this version"):
        folder.read_build()


def test_jobs_oldest_first_and_all_of_them_in_run_information(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    assert folder.jobs() == ()
    for name, minutes in (("c", 1), ("a", 2), ("b", 0)):
        folder.write_job(job(name, minutes))
    assert [found.job for found in folder.jobs()] == ["b", "c", "a"]
    written = RunInformation.model_validate_json((folder.root / "run_information.json").read_text())
    assert written.jobs == folder.jobs()
    folder.write_job(job("a", 2).model_copy(update={"status": "passed"}))
    assert [found.status for found in folder.jobs()] == ["submitting", "submitting", "passed"]


def test_a_step_that_is_overtaken_loses_no_job_from_run_information(artifacts: Artifacts) -> None:
    class Overtaken(BuildFolder):
        """Another step writes its job after ours has looked which there are."""

        waits = True

        def jobs(self) -> tuple[JobRecord, ...]:
            found = super().jobs()
            if self.waits:
                self.waits = False
                artifacts.build(BUILD).write_job(job("b", 1))
            return found

    Overtaken(artifacts.root, BUILD).write_job(job("a", 0))
    folder = artifacts.build(BUILD)
    written = RunInformation.model_validate_json((folder.root / "run_information.json").read_text())
    assert [found.job for found in written.jobs] == ["a", "b"]


def test_release_files_are_removed(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    folder.write_build(record())
    assert folder.remove_release_files() == []
    for path in ("release.json", "import.cfg", "drop/release.json", "drop/ServiceGroupRoot/Parameters/a.json"):
        write_atomically(folder.root / path, b"{}")
    assert sorted(folder.remove_release_files()) == sorted(RELEASE_FILES)
    assert not any((folder.root / name).exists() for name in RELEASE_FILES)
    assert folder.remove_release_files() == []
    assert folder.read_build() == record()


@pytest.mark.parametrize("protocol", ["s3", "gs", "sftp", "smb", "ftp", "webdav", "dbfs", "hdfs", "simplecache::az"])
def test_a_store_in_which_two_can_create_one_file_is_refused(protocol: str) -> None:
    with pytest.raises(BadInput, match="lets two processes write one record") as refused:
        Artifacts(f"{protocol}://host/builds")
    assert f"{protocol}://host/builds" in refused.value.where
    assert "az://CONTAINER/PREFIX" in refused.value.hint


def test_of_two_that_create_a_file_at_once_one_succeeds(artifacts: Artifacts) -> None:
    created: list[int] = []

    def create(number: int) -> None:
        with suppress(FileExistsError):
            create_atomically(artifacts.root / "one" / "file", bytes([number]) * 1000)
            created.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = created
    assert read_whole(artifacts.root / "one" / "file") == bytes([winner]) * 1000


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_says_so(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(BadInput, match="has no hard links") as refused:
        Artifacts(str(tmp_path)).build(BUILD).create_build(record())
    assert refused.value.where == str(tmp_path / BUILD)
    assert list((tmp_path / BUILD).iterdir()) == []


@pytest.mark.parametrize("at", ["store", "store/builds", "store/builds/one"])
def test_a_file_in_the_place_of_a_folder_is_not_taken_for_the_record(at: str, tmp_path: Path) -> None:
    """Who creates a record takes "it exists" for another process that was faster, and would try for ever."""
    (tmp_path / at).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / at).touch()
    with pytest.raises(NotADirectoryError):
        create_atomically(UPath(tmp_path / "store" / "builds" / "one" / "file"), b"content")


def test_a_record_and_its_name_are_on_the_disk_before_anybody_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, link = os.fsync, os.link

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append("file" if path.is_file() else str(path.relative_to(tmp_path)))
        fsync(descriptor)

    def linked(source: object, target: str) -> None:
        events.append("link")
        link(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", linked)
    (tmp_path / "store").mkdir()
    create_atomically(UPath(tmp_path / "store" / "new" / "folder" / "file"), b"content")
    assert events == ["file", "link", "store/new/folder", "store/new", "store"]
    events.clear()
    write_atomically(UPath(tmp_path / "store" / "file"), b"content")
    assert events == ["file", "store"]
    events.clear()
    folder = Artifacts(str(tmp_path / "store")).build(BUILD)
    folder.keep_sources([("a/b", b"")])
    folder.write_log("base/a", "log", "")
    assert events == [], "a power cut may cost what only explains"


def test_logs_keep_what_is_no_unicode(artifacts: Artifacts) -> None:
    path = artifacts.build(BUILD).write_log("base/a", "single.node0.log", "fine\nlone \udcff\n")
    assert path.read_text("utf-8") == "fine\nlone ?\n"


def test_what_passed(artifacts: Artifacts) -> None:
    assert artifacts.read_passed(KEY.digest, "base/a") is None
    assert artifacts.read_last_passed("base/a") is None
    passed = PassedImage(staged=staged(), tested=TestedImage(image="base/a", digest="sha256:1", scenarios=()))
    artifacts.write_passed(passed)
    assert artifacts.read_passed(KEY.digest, "base/a") == passed
    assert artifacts.read_last_passed("base/a") == passed
    assert list(artifacts.builds()) == []


def test_images_with_the_same_content_do_not_displace_each_other(artifacts: Artifacts) -> None:
    of_a = PassedImage(staged=staged(), tested=TestedImage(image="base/a", digest="sha256:1", scenarios=()))
    of_b = of_a.model_copy(update={"staged": staged("sha256:2").model_copy(update={"image": "base/b"})})
    artifacts.forget_passed(KEY.digest, "sha256:1")
    for each in (of_a, of_b):
        artifacts.write_passed(each)
    assert [artifacts.read_passed(KEY.digest, image) for image in ("base/a", "base/b", "base/c")] == [of_a, of_b, None]
    artifacts.forget_passed(KEY.digest, "sha256:1")
    assert [artifacts.read_passed(KEY.digest, image) for image in ("base/a", "base/b")] == [None, of_b]


def test_what_passed_in_earlier_versions_is_read_and_forgotten(artifacts: Artifacts) -> None:
    passed = PassedImage(staged=staged(), tested=TestedImage(image="base/a", digest="sha256:1", scenarios=()))
    write_atomically(artifacts.root / "passed" / f"{KEY.digest}.json", passed.model_dump_json().encode())
    assert artifacts.read_passed(KEY.digest, "base/a") == passed
    assert artifacts.read_passed(KEY.digest, "base/b") is None
    artifacts.forget_passed(KEY.digest, "sha256:1")
    assert artifacts.read_passed(KEY.digest, "base/a") is None


def test_what_passed_for_a_pull_request_is_remembered_apart(artifacts: Artifacts) -> None:
    ours = PassedImage(staged=staged(), tested=TestedImage(image="base/a", digest="sha256:1", scenarios=()))
    theirs = ours.model_copy(update={"staged": staged("sha256:6")})
    artifacts.write_passed(theirs, by_pull_request=True)
    assert artifacts.read_passed(KEY.digest, "base/a") is None
    assert artifacts.read_last_passed("base/a") is None
    artifacts.write_passed(ours)
    artifacts.write_passed(theirs, by_pull_request=True)
    assert artifacts.read_passed(KEY.digest, "base/a") == ours
    assert artifacts.read_passed(KEY.digest, "base/a", by_pull_requests=True) == theirs
    artifacts.forget_passed(KEY.digest, "sha256:6")
    assert artifacts.read_passed(KEY.digest, "base/a") == ours
    assert artifacts.read_passed(KEY.digest, "base/a", by_pull_requests=True) is None


def test_what_passed_but_cannot_be_read_is_made_again(artifacts: Artifacts) -> None:
    for path in (f"passed/{KEY.digest}/base/a.json", "last_passed/base/a.json"):
        write_atomically(artifacts.root / path, b'{"staged": {}')
    assert artifacts.read_passed(KEY.digest, "base/a") is None
    assert artifacts.read_last_passed("base/a") is None


def test_staged_and_tested_images(artifacts: Artifacts) -> None:
    folder = artifacts.build(BUILD)
    assert folder.read_staged("base/a") is None
    assert folder.read_tested("base/a") is None
    tested = TestedImage(image="base/a", digest="sha256:1", scenarios=())
    folder.write_staged(staged())
    folder.write_tested(tested)
    assert folder.read_staged("base/a") == staged()
    assert folder.read_tested("base/a") == tested
    assert not staged().reused(BUILD)
    assert staged().reused("20261124.00000000")


def write_until(stop: threading.Event, write: Callable[[int], None]) -> threading.Thread:
    def work() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            write(number)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = UPath(tmp_path / "folder" / "file")
    size = 1_000_000
    write_atomically(path, bytes(size))
    stop = threading.Event()
    writers = [write_until(stop, lambda number: write_atomically(path, bytes([number % 256]) * size)) for _ in range(2)]
    try:
        for _ in range(200):
            seen = path.read_bytes()
            assert len(seen) == size
            assert len(set(seen)) == 1
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_else(tmp_path: Path) -> None:
    path = UPath(tmp_path / "file")
    path.mkdir()  # a folder can't be replaced by a file
    with pytest.raises(OSError):
        write_atomically(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_plan_is_kept_for_its_run_and_removed_after_some_days(artifacts: Artifacts) -> None:
    plan = Plan(commit="abc", images=())
    day = datetime(2026, 11, 23, 23, tzinfo=UTC)
    name = artifacts.write_plan(plan, day)
    assert artifacts.write_plan(plan, day) == name
    assert artifacts.read_plan(name) == plan
    later = artifacts.write_plan(plan, day + timedelta(days=1))
    stubborn = artifacts.root / "plans" / f"20261101.{'0' * 64}.json"
    write_atomically(stubborn / "what a plan is not", b"")
    artifacts.remove_plans(day + timedelta(hours=2))
    assert artifacts.read_plan(name) is None
    assert stubborn.exists()
    assert artifacts.read_plan(later) == plan
    assert artifacts.folders() == []


def test_a_plan_is_believed_only_under_the_name_that_it_got(artifacts: Artifacts) -> None:
    plan, other = Plan(commit="abc", images=()), Plan(commit="def", images=())
    name, build = artifacts.write_plan(plan, datetime(2026, 11, 23, tzinfo=UTC)), "20261123.00000001"
    artifacts.build(build).write_plan(plan)
    (artifacts.root / "plans" / f"{name}.json").unlink()
    assert (artifacts.read_plan(name), artifacts.read_plan(name, build)) == (None, plan)
    for path in (artifacts.root / build / "plan.json", artifacts.root / "plans" / f"{name}.json"):
        write_atomically(path, other.model_dump_json().encode())
        with pytest.raises(BadInput, match="belongs to another folder"):
            artifacts.read_plan(name, build)
        path.unlink()


@pytest.mark.parametrize("name", ["", "../passed/x", "20261123.zz"])
def test_what_is_no_name_of_a_plan_is_no_plan(artifacts: Artifacts, name: str) -> None:
    assert artifacts.read_plan(name) is None


def test_an_image_staged_by_an_earlier_version_is_read(artifacts: Artifacts) -> None:
    folder = artifacts.build("20261123.00000001")
    document = staged_image("apps/other", folder.build).model_dump(mode="json", exclude={"because"})
    write_atomically(folder.image("apps/other") / "staged.json", json.dumps(document).encode())
    staged = folder.read_staged("apps/other")
    assert staged is not None
    assert staged.because == ()


def test_the_deletion_of_an_image_is_known_while_it_lasts(artifacts: Artifacts) -> None:
    assert not artifacts.is_being_deleted("sha256:1")
    with artifacts.deletion("sha256:1"), suppress(KeyError):
        with artifacts.deletion("sha256:1"):
            assert artifacts.is_being_deleted("sha256:1")
            raise KeyError
        assert artifacts.is_being_deleted("sha256:1"), "another process is at it, too"
    assert not artifacts.is_being_deleted("sha256:1")
    with artifacts.deletion("sha256:12"):
        assert not artifacts.is_being_deleted("sha256:1")


def test_a_deletion_whose_process_was_killed_is_over(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "60"])
    name = named(child.pid)
    monkeypatch.setattr("aml_images_dagster.builds.artifacts.this_process", lambda: name)
    with artifacts.deletion("sha256:1"):
        assert artifacts.is_being_deleted("sha256:1")
        child.kill()
        child.wait()
        assert not artifacts.is_being_deleted("sha256:1")
        assert not [*(artifacts.root / "deletions").glob("*")], "nothing is left of it"
