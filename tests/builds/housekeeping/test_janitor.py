"""The janitor: which builds are cleaned up without any event, and when. Real registry, real engine."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.artifacts import Artifacts, BuildFolder, write_atomically
from aml_images_dagster.builds.housekeeping.cleanup import anything_left, cleanup, not_clean, read_report
from aml_images_dagster.builds.housekeeping.janitor import due_builds, sweep
from aml_images_dagster.builds.ledger import Ledger, TagChange
from aml_images_dagster.builds.records import BuildFailure, BuildOutcome, BuildRecord
from tests.records import begun_release, build_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.housekeeping.cleanup import CleanupReport
    from aml_images_dagster.builds.housekeeping.janitor import RunState
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

NOW = datetime.now(UTC)
BUILD = f"20261123.{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class Over:
    """Every run is in the same state."""

    how: RunState

    def state(self, _: str) -> RunState:
        return self.how

    def failure(self, _: str) -> BuildFailure | None:
        return BuildFailure(step="a step", message="it broke")


class House:
    """One build with one staged image, and the janitor on its round."""

    def __init__(
        self,
        session: BuildSession,
        repository: ImageRepository,
        push: Callable[[str, str], Reference],
    ) -> None:
        self.backends: Backends = session.backends
        self.settings: Settings = session.settings
        self.repository = repository
        self.push = push
        self.folder = self.backends.artifacts.build(BUILD)

    def begin(self, status: str, created: datetime = NOW, keep_until: datetime | None = None) -> None:
        self.folder.write_build(
            BuildRecord.model_validate(
                {
                    "build": BUILD,
                    "run_id": "aaaaaaaa",
                    "status": status,
                    "commit": "",
                    "source": "",
                    "created": created,
                    "release_tag": "v1",
                    "images": (self.repository.image("tools/shell"),),
                    "keep_until": keep_until,
                }
            )
        )
        self.stage()

    def stage(self) -> None:
        family, name = self.repository.image("tools/shell").split("/")
        self.push(family, f"{name}--{BUILD}")

    def sweep(self, state: RunState = "alive", now: datetime = NOW) -> list[CleanupReport]:
        return sweep(self.backends, self.settings, Over(state), now)

    @property
    def is_staged(self) -> bool:
        return anything_left(BUILD, self.backends)

    @property
    def status(self) -> str:
        record = self.folder.read_build()
        assert record is not None
        return record.status


@pytest.fixture
def house(
    new_session: Callable[..., BuildSession],
    image_repository: ImageRepository,
    push_new_image: Callable[[str, str], Reference],
) -> House:
    return House(new_session("tools/shell"), image_repository, push_new_image)


@pytest.mark.parametrize("status", ["running", "partial"])
@pytest.mark.parametrize("state", ["failed", "canceled"])
def test_a_build_whose_run_is_over_is_cleaned_up(house: House, status: str, state: RunState) -> None:
    house.begin(status)
    (report,) = house.sweep(state)
    assert report.clean
    assert not house.is_staged
    assert house.status == state


@pytest.mark.parametrize("state", ["alive", "unknown", "succeeded"])
def test_a_build_that_may_be_running_is_left_alone(house: House, state: RunState) -> None:
    house.begin("running")
    assert house.sweep(state) == []
    assert house.is_staged
    assert house.status == "running"


def test_what_an_orphan_step_pushes_after_the_cleanup_goes_too(house: House) -> None:
    house.begin("running")
    house.sweep("failed")
    assert house.sweep("failed") == []
    house.stage()
    (report,) = house.sweep("failed", datetime.now(UTC))
    assert [row.kind for row in report.rows].count("staged image") >= 1
    assert not house.is_staged


def test_what_is_pushed_after_the_longest_build_goes_too(house: House) -> None:
    """By a build elsewhere whose step was killed before it wrote down what it had started."""
    house.begin("running")
    house.sweep("failed")
    house.stage()
    house.sweep("failed", datetime.now(UTC) + timedelta(minutes=house.settings.build_timeout_minutes + 30))
    assert not house.is_staged


def test_a_build_that_is_settled_is_not_looked_at_any_more(house: House) -> None:
    house.begin("running")
    house.sweep("failed")
    later = NOW + timedelta(days=1)
    assert house.sweep("failed", later) == []
    damage(house)
    assert house.sweep("failed", later) == []
    assert (house.folder.root / "build.json").read_bytes() == b"{"
    (house.folder.root / "build.json").unlink()
    house.begin("failed")
    assert cleanup(BUILD, house.backends, "failed").clean, "a person may always ask for more"
    house.stage()
    assert [report.clean for report in house.sweep("failed", datetime.now(UTC))] == [True]


def test_the_ledger_is_read_once_for_all_builds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    old = NOW - timedelta(days=30)
    house.begin("succeeded", created=old)
    record = house.folder.read_build()
    assert record is not None
    others = [f"20261001.{number:08x}" for number in range(3)]
    for other in others:
        house.backends.artifacts.build(other).write_build(record.model_copy(update={"build": other}))
    read: list[frozenset[str]] = []

    def released(_: Ledger) -> frozenset[str]:
        read.append(frozenset({BUILD, *others}))
        return read[-1]

    monkeypatch.setattr(Ledger, "released_builds", released)
    assert house.sweep("succeeded") == []
    assert len(read) == 1
    assert house.sweep("succeeded") == []
    assert len(read) == 1, "they are settled"


def test_a_cleanup_that_could_not_finish_is_tried_again_ever_more_rarely(house: House) -> None:
    house.begin("running")
    registry = house.backends.staging
    object.__setattr__(house.backends, "staging", type(registry)("127.0.0.1:9"))
    (report,) = house.sweep("failed")
    assert not report.clean
    assert report.attempts == 1
    assert house.sweep("failed", report.finished + timedelta(seconds=14)) == []
    (report,) = house.sweep("failed", report.finished + timedelta(seconds=16))
    assert report.attempts == 2
    assert house.sweep("failed", report.finished + timedelta(seconds=29)) == []
    object.__setattr__(house.backends, "staging", registry)
    (report,) = house.sweep("failed", report.finished + timedelta(seconds=31))
    assert report.clean
    assert report.attempts == 0
    assert not house.is_staged
    written = read_report(house.folder)
    assert written is not None
    assert written.clean


def test_a_failure_that_is_kept_is_cleaned_up_when_its_time_is_over(house: House) -> None:
    house.begin("running", keep_until=NOW + timedelta(hours=1))
    (report,) = house.sweep("failed")
    assert [row.outcome for row in report.rows] == ["kept"]
    assert house.is_staged
    assert house.status == "failed"
    assert house.sweep("failed", NOW + timedelta(minutes=59)) == []
    (report,) = house.sweep("failed", NOW + timedelta(minutes=61))
    assert report.clean
    assert not house.is_staged


def test_a_build_that_was_not_released_expires(house: House) -> None:
    house.begin("succeeded", created=NOW - timedelta(days=14))
    assert house.sweep("succeeded") == []
    house.sweep("succeeded", NOW + timedelta(days=2))
    assert not house.is_staged
    assert house.status == "expired"


def test_a_build_that_was_released_stays_importable(house: House) -> None:
    house.begin("succeeded", created=NOW - timedelta(days=30))
    Ledger(house.backends.artifacts).append(begun_release(BUILD))
    assert house.sweep("succeeded") == []
    assert house.is_staged
    assert house.status == "succeeded"


def test_why_a_build_failed_is_written_down_once(house: House) -> None:
    house.begin("running")
    house.folder.finish("running", BuildFailure(step="staged", message="no such file", log="line"))
    house.sweep("failed")
    record = house.folder.read_build()
    assert record is not None
    assert record.failure == BuildFailure(step="staged", message="no such file", log="line")


def test_the_run_tells_why_when_no_step_could(house: House) -> None:
    house.begin("running")
    house.sweep("failed")
    record = house.folder.read_build()
    assert record is not None
    assert record.failure == BuildFailure(step="a step", message="it broke")


def test_an_expired_build_whose_cleanup_could_not_finish_is_tried_again(house: House) -> None:
    house.begin("succeeded", created=NOW - timedelta(days=16))
    registry = house.backends.staging
    object.__setattr__(house.backends, "staging", type(registry)("127.0.0.1:9"))
    (report,) = house.sweep("succeeded")
    assert not report.clean
    object.__setattr__(house.backends, "staging", registry)
    (report,) = house.sweep("succeeded", report.finished + timedelta(seconds=16))
    assert report.clean
    assert not house.is_staged


def damage(house: House) -> None:
    (house.folder.root / "build.json").write_bytes(b"{")


def test_a_build_with_a_damaged_record_has_failed(house: House) -> None:
    house.begin("running")
    damage(house)
    (report,) = house.sweep("alive")
    assert report.clean
    assert not house.is_staged
    record = house.folder.read_build()
    assert record is not None
    assert (record.build, record.status, record.images) == (BUILD, "failed", (house.repository.image("tools/shell"),))
    assert record.failure is not None
    assert "build.json was damaged" in record.failure.message
    assert (house.folder.root / "build.json.damaged").read_bytes() == b"{"


def test_a_released_build_with_a_damaged_record_is_repaired(house: House) -> None:
    house.begin("succeeded")
    before = house.folder.read_build()
    assert before is not None
    image = house.repository.image("tools/shell")
    change = TagChange(image=image, repository="public/shell", tag="v1", before=None, after="sha256:1")
    about = {"commit": before.commit, "built": before.created, "release_tag": before.release_tag}
    Ledger(house.backends.artifacts).append(begun_release(BUILD, **about, changes=(change,)))
    damage(house)
    assert house.sweep("succeeded") == []
    assert house.folder.read_build() == before.model_copy(update={"run_id": BUILD.partition(".")[2]})
    assert house.is_staged


def test_a_build_is_not_repaired_to_one_that_can_be_released_by_its_own_files(house: House) -> None:
    """A pull request of an earlier version could write both."""
    house.begin("partial")
    release = {"version": 1, "build": BUILD, "commit": "c", "source": "", "created": NOW.isoformat()}
    (house.folder.root / "release.json").write_text(json.dumps(release | {"release_tag": "v1", "images": []}))
    (house.folder.root / "build.json").write_text('{"pull_request": "7",')
    (report,) = house.sweep("succeeded")
    assert report.clean
    record = house.folder.read_build()
    assert record is not None
    assert (record.status, record.pull_request) == ("failed", "7")
    assert not house.is_staged


def test_what_nobody_has_foreseen_in_one_build_keeps_no_other_from_being_cleaned_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.begin("running")
    impossible, odd = (house.backends.artifacts.build(f"2026{day}.00000000") for day in ("1399", "1122"))
    write_atomically(impossible.root / "build.json", b"{")
    odd.write_build(build_record(odd.build, images=(house.repository.image("tools/shell"),)))
    write_atomically(odd.image(house.repository.image("tools/shell")) / "remote_work", b"\xff\xfe")
    read = BuildFolder.read_build

    def unforeseen(folder: BuildFolder) -> BuildRecord | None:
        if folder.build == "20261121.00000000":
            raise RuntimeError("what is that?")
        return read(folder)

    monkeypatch.setattr(BuildFolder, "read_build", unforeseen)
    house.backends.artifacts.build("20261121.00000000").create_build(build_record("20261121.00000000"))
    reports = {report.build: report for report in house.sweep("failed")}
    assert {build: report.clean for build, report in reports.items()} == {
        BUILD: True,
        impossible.build: True,
        odd.build: True,
        "20261121.00000000": False,
    }
    assert "RuntimeError: what is that?" in reports["20261121.00000000"].rows[0].detail


def test_a_release_that_begins_while_other_builds_expire_keeps_its_images(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has read the ledger long before."""
    house.begin("succeeded", created=NOW - timedelta(days=30))
    Ledger(house.backends.artifacts).released_builds()
    monkeypatch.setattr("aml_images_dagster.builds.housekeeping.janitor.cache", lambda _: lambda: frozenset())
    Ledger(house.backends.artifacts).append(begun_release(BUILD))
    (report,) = house.sweep("succeeded")
    assert [(row.kind, row.outcome) for row in report.rows] == [("build", "kept")]
    assert house.is_staged
    assert house.status == "succeeded"


def test_a_release_of_an_earlier_version_that_begins_at_the_decision_to_expire_keeps_its_images(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.begin("succeeded", created=NOW - timedelta(days=30))
    decide = BuildFolder.decide

    def begin_meanwhile(folder: BuildFolder, *arguments: Any) -> BuildOutcome:
        Ledger(house.backends.artifacts).append(begun_release(BUILD))
        return decide(folder, *arguments)

    monkeypatch.setattr(BuildFolder, "decide", begin_meanwhile)
    (report,) = house.sweep("succeeded")
    assert [(row.kind, row.outcome) for row in report.rows] == [("build", "kept")]
    assert house.is_staged
    assert house.status == "succeeded"


def test_a_build_that_a_release_has_claimed_does_not_expire(house: House) -> None:
    house.begin("succeeded", created=NOW - timedelta(days=30))
    house.folder.decide("released")
    assert house.sweep("succeeded") == []
    assert house.sweep("succeeded") == [], "it is not settled"
    assert house.is_staged
    assert BUILD in [folder.build for folder in house.backends.artifacts.unsettled()]
    assert cleanup(BUILD, house.backends, "canceled", even_if_released=True).clean
    assert house.status == "canceled"
    assert not house.is_staged


def test_a_build_that_a_release_has_claimed_long_ago_without_a_record_expires(house: House) -> None:
    house.begin("succeeded", created=NOW - timedelta(days=30))
    house.folder.decide("released")
    assert house.sweep("succeeded", NOW + timedelta(minutes=50)) == []
    assert due_builds(house.backends, house.settings, Over("succeeded"), NOW + timedelta(hours=2)) == [BUILD]
    assert [report.clean for report in house.sweep("succeeded", NOW + timedelta(hours=2))] == [True]
    assert not house.is_staged
    assert house.status == "expired"


def test_a_damaged_build_that_a_release_has_claimed_long_ago_is_cleaned_up(house: House) -> None:
    house.begin("succeeded")
    house.folder.decide("released")
    damage(house)
    (report,) = house.sweep("succeeded", NOW + timedelta(minutes=1))
    assert ("build", "kept") in [(row.kind, row.outcome) for row in report.rows]
    assert house.is_staged
    assert [report.clean for report in house.sweep("succeeded", NOW + timedelta(hours=2))] == [True]
    assert not house.is_staged
    assert house.status == "failed"


def test_a_build_that_a_release_has_claimed_stays_while_its_record_cannot_be_read(house: House) -> None:
    house.begin("succeeded")
    house.folder.decide("released")
    (house.folder.root / "build.json").unlink()
    (house.folder.root / "build.json").mkdir()
    report = cleanup(BUILD, house.backends, "expired")
    assert [(row.kind, row.outcome) for row in report.rows] == [("record", "left"), ("build", "kept")]
    assert house.is_staged


def test_a_report_of_an_earlier_version_is_read(house: House) -> None:
    house.begin("failed")
    row = {"kind": "record", "name": "build.json", "outcome": "made anew", "detail": ""}
    report = {"build": BUILD, "rows": [row], "clean": True, "attempts": 0, "finished": NOW.isoformat()}
    write_atomically(house.folder.root / "cleanup.json", json.dumps(report).encode())
    read = read_report(house.folder)
    assert read is not None
    assert [row.outcome for row in read.rows] == ["repaired"]


def test_a_build_whose_release_cannot_be_ruled_out_is_not_cleaned_up(house: House) -> None:
    house.begin("succeeded", created=NOW - timedelta(days=30))
    write_atomically(Ledger(house.backends.artifacts).folder / "000001.json", b"{")
    assert not cleanup(BUILD, house.backends, "expired").clean
    assert house.is_staged
    assert house.status == "succeeded"


def test_a_build_that_is_settled_while_it_is_cleaned_up_is_looked_at_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.begin("running")
    house.sweep("failed")
    settle, artifacts = Artifacts.settle, house.backends.artifacts

    def meanwhile(store: Artifacts, build: str) -> None:
        monkeypatch.setattr(Artifacts, "settle", settle)
        house.stage()
        cleanup(BUILD, house.backends, "failed")
        settle(store, build)

    monkeypatch.setattr(Artifacts, "settle", meanwhile)
    assert house.sweep("failed", NOW + timedelta(days=1)) == []
    assert [folder.build for folder in artifacts.unsettled()] == [BUILD]


def test_a_damaged_record_is_unhealthy_until_staging_answers_and_asked_for_ever_more_rarely(house: House) -> None:
    house.begin("running")
    damage(house)
    registry = house.backends.staging
    object.__setattr__(house.backends, "staging", type(registry)("127.0.0.1:9"))
    (report,) = house.sweep("failed")
    assert (report.clean, report.attempts) == (False, 1)
    assert not_clean(house.backends.artifacts) == [BUILD]
    assert house.sweep("failed", report.finished + timedelta(seconds=14)) == []
    (report,) = house.sweep("failed", report.finished + timedelta(seconds=16))
    assert (report.clean, report.attempts) == (False, 2)
    object.__setattr__(house.backends, "staging", registry)
    (report,) = house.sweep("failed", report.finished + timedelta(seconds=31))
    assert report.clean
    assert not_clean(house.backends.artifacts) == []
    assert not house.is_staged


def test_a_record_of_a_newer_version_is_left_alone_and_unhealthy(house: House) -> None:
    house.begin("running")
    path = house.folder.root / "build.json"
    newer = path.read_text().replace("{", '{"color": "blue",', 1)
    path.write_text(newer)
    (report,) = house.sweep("failed")
    assert "a newer version has written it, and this one does not understand: color" in report.rows[0].detail
    assert not_clean(house.backends.artifacts) == [BUILD]
    assert house.sweep("failed", report.finished + timedelta(seconds=14)) == []
    assert not cleanup(BUILD, house.backends, "failed").clean
    assert path.read_text() == newer
    assert len(list(house.backends.staging.tags(house.repository.image("tools/shell").partition("/")[0]))) == 1


def test_a_record_that_cannot_be_read_keeps_nothing_else(house: House) -> None:
    house.begin("running")
    other = house.backends.artifacts.build("20261122.00000000")
    (other.root / "build.json").mkdir(parents=True)
    reports = {report.build: report.clean for report in house.sweep("failed")}
    assert reports == {BUILD: True, "20261122.00000000": False}
    assert not house.is_staged
