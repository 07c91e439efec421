"""The sensor of missing fixes, tick by tick: when it has production scanned, and what it builds."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.storage.tags import RUN_KEY_TAG

from aml_images_dagster.builds.compliance.patches import ProductionScan, ProductionScans, Rebuild
from aml_images_dagster.builds.ledger import LATEST, Ledger, TagChange
from aml_images_dagster.builds.records import PassedImage, TestedImage
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.images import build_job
from aml_images_dagster.defs.keys import BUILD_JOB, SCAN_JOB, released_key
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.patches import sensor as module
from aml_images_dagster.defs.patches.sensor import PatchState, patches_sensor
from aml_images_dagster.defs.request import RESOURCE
from aml_images_dagster.defs.run import Factory
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.vulnerabilities.vulnerability import Scan, Vulnerability
from tests.builds.in_memory import MemoryFactory, write, write_image
from tests.records import begun_release, staged_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.builds.records import Plan

LINE = "openssl 1 → 2 (CVE-2026-1)"
FIX = Vulnerability(
    "CVE-2026-1", "openssl", "deb", "1", "2", "unknown", "updates", date(2026, 11, 20), is_security_update=True
)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Clock(datetime):
    """The time of the sensor."""

    time = datetime(2026, 11, 26, 6, tzinfo=UTC)

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        assert tz is UTC
        return cls.time


class Scene:
    """base/a, app/b FROM it, and base/c beside them."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.repo = folder / "repo"
        write_image(self.repo, "base/a", "FROM debian:12\nRUN apt-get install openssl\n")
        write_image(self.repo, "app/b", "FROM registry.example/a\nRUN true\n")
        write_image(self.repo, "base/c", "FROM debian:12\nRUN true\n")
        write(self.repo / "checks" / "check.py", "true\n")
        memory = MemoryFactory(self.repo, folder / "home", {"debian:12": f"sha256:{3:064x}"})
        self.factory = Factory(memory.settings, load_source(memory.settings), memory.backends)
        self.instance = instance
        images = list(self.factory.source.catalog.images.values())
        scan_job = dg.define_asset_job(SCAN_JOB, selection=dg.AssetSelection.assets())
        self.sensor = patches_sensor(self.factory, MainBranch(self.factory), scan_job, build_job(images))
        self.artifacts = memory.backends.artifacts
        self.scans = ProductionScans(self.artifacts)
        self.cursor: str | None = None

    def wait(self, time: timedelta) -> None:
        Clock.time += time

    def tick(self) -> list[dg.RunRequest]:
        self.wait(timedelta(minutes=5))
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.said = str(result.skip_reason.skip_message) if isinstance(result.skip_reason, dg.SkipReason) else ""
        return list(result.run_requests or ())

    def builds(self) -> list[dg.RunRequest]:
        """The builds that are asked for, after all scans that are asked for have ended and have said the same."""
        for _ in range(3):
            requests = self.tick()
            if [request.job_name for request in requests] != [SCAN_JOB]:
                return requests
            self.end(requests[0])
        raise AssertionError("it is scanned again and again")

    def end(self, request: dg.RunRequest, *, success: bool = True) -> None:
        """The run of a request starts, and ends a minute later; a scan finds what was found before."""
        run = dg.DagsterRun(str(request.job_name), tags={RUN_KEY_TAG: str(request.run_key)})
        self.instance.add_run(run)
        kinds = (
            DagsterEventType.RUN_START,
            DagsterEventType.RUN_SUCCESS if success else DagsterEventType.RUN_FAILURE,
        )
        for kind in kinds:
            self.wait(timedelta(minutes=1))
            event = DagsterEvent(kind.value, str(request.job_name))
            self.instance.report_dagster_event(event, run.run_id, timestamp=Clock.time.timestamp())
        if request.job_name == SCAN_JOB and success:
            for scan in self.scans.read_all().values():
                self.scans.write(scan.model_copy(update={"asked": Clock.time}))

    def found(self, image: str, *rebuilds: Rebuild, scans: tuple[Scan, ...] = (), **fields: Any) -> ProductionScan:
        """What the last scan has found."""
        said = scans or (Scan("updates", (FIX,) if rebuilds else ()),)
        scan = ProductionScan.of(image, f"sha256:{1:064x}", Clock.time, said, None)
        scan = scan.model_copy(update={"rebuilds": rebuilds} | fields)
        self.scans.write(scan)
        return scan

    def release(self, image: str, digest: str) -> None:
        change = TagChange(image=image, repository=image, tag=LATEST, before=None, after=digest)
        ledger = Ledger(self.artifacts)
        begun = ledger.append(begun_release("20261126.aaaaaaaa", changes=(change,), when=Clock.time))
        ledger.append(begun.model_copy(update={"begun": begun.number, "when": Clock.time}))

    def passed(self, image: str) -> None:
        """Another build of an image has passed now."""
        staged = staged_image(image, "20261126.cccccccc")
        tested = TestedImage(image=image, digest=staged.digest, scenarios=())
        self.artifacts.write_passed(PassedImage(staged=staged, tested=tested))
        path = Path(str(self.artifacts.root)) / "last_passed" / f"{image}.json"
        os.utime(path, (Clock.time.timestamp(),) * 2)

    def plan(self, request: dg.RunRequest) -> Plan:
        plan = self.artifacts.read_plan(request.run_config["resources"][RESOURCE]["config"]["plan"])
        assert plan is not None
        return plan

    def state(self) -> PatchState:
        return PatchState.model_validate_json(self.cursor or "")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr(Clock, "time", Clock.time)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scene(tmp_path, instance)


def _rebuild(image: str, *, forced: bool = True, line: str = LINE) -> Rebuild:
    return Rebuild(image=image, forced=forced, fixes=(line,))


def test_production_is_scanned_once_a_day(scene: Scene) -> None:
    (first,) = scene.tick()
    assert (first.job_name, first.asset_check_keys) == (SCAN_JOB, None)
    scene.end(first)
    assert scene.tick() == []
    scene.wait(23 * HOUR)
    assert scene.tick() == []
    scene.wait(HOUR)
    (second,) = scene.tick()
    assert second.job_name == SCAN_JOB
    assert second.run_key != first.run_key


def test_nothing_is_asked_for_while_the_scan_runs(scene: Scene) -> None:
    (request,) = scene.tick()
    run = dg.DagsterRun(SCAN_JOB, status=dg.DagsterRunStatus.STARTED, tags={RUN_KEY_TAG: str(request.run_key)})
    scene.instance.add_run(run)
    scene.found("base/a", _rebuild("base/a"))

    assert scene.tick() == []
    assert scene.said == "production is being scanned"


def test_what_a_rebuild_repairs_is_built_by_force_with_the_reason_and_what_is_from_it(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    scene.found("base/c")

    (build,) = scene.builds()

    assert build.job_name == BUILD_JOB
    assert build.tags["aml-images/trigger"] == "missing fixes"
    assert build.tags["aml-images/fixes"] == "base/a"
    assert build.run_config["resources"][RESOURCE]["config"]["force"] is True
    reasons = {planned.image: planned.reasons for planned in scene.plan(build).images}
    assert reasons == {"base/a": (LINE,), "app/b": ("FROM base/a",)}


def test_what_the_content_key_knows_is_not_forced(scene: Scene) -> None:
    scene.found("base/c", _rebuild("base/c", forced=False))

    (build,) = scene.builds()

    assert "force" not in build.run_config["resources"][RESOURCE]["config"]
    assert {planned.image for planned in scene.plan(build).images} == {"base/c"}


def test_images_that_lack_fixes_make_one_build(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    scene.found("app/b", _rebuild("base/a", line="zlib 1 → 2 (CVE-2026-2)"))
    scene.found("base/c", _rebuild("base/c"))

    (build,) = scene.builds()

    reasons = {planned.image: planned.reasons for planned in scene.plan(build).images}
    assert reasons["base/c"] == (LINE,)
    assert set(reasons["base/a"]) == {LINE, "zlib 1 → 2 (CVE-2026-2)"}


def test_a_build_is_started_once_and_what_it_has_repaired_waits_for_its_release(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    (build,) = scene.builds()
    scene.end(build)
    (scan,) = scene.tick()
    assert scan.asset_check_keys == [dg.AssetCheckKey(released_key("base/a"), "patched")]

    scene.found("base/a", waits_for="20261126.bbbbbbbb", scans=(Scan("updates", (FIX,)),))
    scene.end(scan)

    assert scene.tick() == []
    assert scene.state().images == {}
    assert "base/a: Build 20261126.bbbbbbbb has what it lacks: release it." in scene.said


def test_a_rebuild_that_does_not_bring_the_fix_is_backed_off_and_paused_in_the_end(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    days = []
    start = Clock.time
    for _ in range(3):
        (build,) = scene.builds()
        days.append((Clock.time - start).days)
        scene.end(build)
        assert scene.builds() == []
        assert "the build did not bring it" in scene.said
        while scene.state().images["base/a"].phase(Clock.time) not in ("due", "paused"):
            scene.wait(HOUR)

    assert days == [0, 1, 3]
    for _ in range(3):
        scene.wait(100 * DAY)
        assert scene.builds() == []
        assert "base/a 3 rebuilds in vain" in scene.said


def test_a_build_that_fails_is_backed_off(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    (build,) = scene.builds()
    scene.end(build, success=False)

    assert scene.builds() == []
    assert "base/a rebuilt in vain (the build failed); tried again after" in scene.said
    scene.wait(DAY)
    assert len(scene.builds()) == 1


def test_a_person_who_has_it_scanned_resumes_what_was_given_up(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    (build,) = scene.builds()
    scene.end(build, success=False)
    assert scene.builds() == []

    scene.wait(HOUR)
    scene.found("base/a", _rebuild("base/a"), by_person=True)

    assert len(scene.builds()) == 1


def test_another_fix_is_a_new_chance(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    (build,) = scene.builds()
    scene.end(build, success=False)
    assert scene.builds() == []

    scene.found("base/a", _rebuild("base/a", line="zlib 1 → 2 (CVE-2026-2)"))

    assert len(scene.builds()) == 1


def test_an_image_that_was_released_since_is_scanned(scene: Scene) -> None:
    scene.found("base/a")
    scene.builds()
    scene.wait(HOUR)
    scene.release("base/a", f"sha256:{2:064x}")

    (scan,) = scene.tick()

    assert scan.asset_check_keys == [dg.AssetCheckKey(released_key("base/a"), "patched")]


def test_an_image_that_production_serves_from_elsewhere_is_not_scanned_for_ever(scene: Scene) -> None:
    scene.release("base/a", f"sha256:{2:064x}")
    scene.wait(HOUR)
    scene.found("base/a")

    assert scene.builds() == []
    assert scene.tick() == []


def test_a_source_that_failed_is_asked_again_after_half_an_hour_and_then_an_hour(scene: Scene) -> None:
    scene.found("base/a", scans=(Scan("updates", None, "the mirror is away", failed=True),))
    scene.found("base/c")
    (scan,) = scene.tick()
    scene.end(scan)
    for minutes in (30, 60):
        assert scene.tick() == []
        assert "the last scan failed: updates: the mirror is away" in scene.said
        scene.wait(timedelta(minutes=minutes - 20))
        assert scene.tick() == []
        scene.wait(timedelta(minutes=10))
        (scan,) = scene.tick()
        assert scan.asset_check_keys == [dg.AssetCheckKey(released_key("base/a"), "patched")]
        scene.end(scan)


def test_the_tick_is_red_after_three_scans_that_failed(scene: Scene) -> None:
    scene.found("base/a", scans=(Scan("updates", None, "the mirror is away", failed=True),))
    for hours in (1, 1, 0):
        (scan,) = scene.tick()
        scene.end(scan)
        assert scene.tick() == []
        scene.wait(hours * HOUR)

    with pytest.raises(FactoryError, match="3 scans of production failed, one after the other: updates: the mirror"):
        scene.tick()
    scene.found("base/a")
    scene.wait(2 * HOUR)
    (scan,) = scene.tick()
    scene.end(scan)
    assert scene.tick() == []


def test_a_scan_whose_run_failed_is_asked_for_again(scene: Scene) -> None:
    scene.found("base/a")
    (scan,) = scene.tick()
    scene.end(scan, success=False)
    assert scene.tick() == []
    assert "the last scan failed: its run did not succeed" in scene.said
    scene.wait(HOUR)
    assert len(scene.tick()) == 1


def test_a_source_that_knows_no_such_images_is_not_asked_again_before_the_next_day(scene: Scene) -> None:
    scene.found("base/a", scans=(Scan("updates", None, "it knows Debian and Ubuntu, not alpine"),))
    scene.builds()
    scene.wait(12 * HOUR)

    assert scene.tick() == []


def test_what_another_build_is_at_waits_for_it_and_is_scanned_before_it_is_rebuilt(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    (scan,) = scene.tick()
    scene.end(scan)
    keys = frozenset({dg.AssetKey(["base", "a.staged"])})
    other = dg.DagsterRun(BUILD_JOB, status=dg.DagsterRunStatus.STARTED, asset_selection=keys)
    scene.instance.add_run(other)
    assert scene.tick() == []
    assert "base/a is to be rebuilt" in scene.said

    scene.instance.delete_run(other.run_id)
    scene.passed("base/a")

    (scan,) = scene.tick()
    assert scan.asset_check_keys == [dg.AssetCheckKey(released_key("base/a"), "patched")]
    scene.end(scan)
    (build,) = scene.tick()
    assert build.job_name == BUILD_JOB


def test_a_build_of_a_pull_request_is_not_waited_for(scene: Scene) -> None:
    scene.found("base/a", _rebuild("base/a"))
    keys = frozenset({dg.AssetKey(["base", "a.staged"])})
    tags = {"aml-images/pull-request": "7"}
    run = dg.DagsterRun(BUILD_JOB, status=dg.DagsterRunStatus.STARTED, asset_selection=keys, tags=tags)
    scene.instance.add_run(run)

    assert len(scene.builds()) == 1


def test_an_image_past_its_end_of_life_is_not_rebuilt(scene: Scene) -> None:
    write(scene.repo / "images" / "base/c" / "image.json", '{"eol": "2020-01-01"}')
    settings = scene.factory.settings
    scene.factory.source = load_source(settings)
    scene.found("base/c", _rebuild("base/c"))

    assert scene.builds() == []


def test_a_cursor_of_somebody_else(scene: Scene) -> None:
    scene.cursor = '{"x": 1}'
    with pytest.raises(BadInput, match="not one of this sensor"):
        scene.tick()
