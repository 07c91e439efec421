"""Notifications of a real Dagster instance, received by a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData, TickData
from dagster._core.scheduler.instigation import TickStatus as Status
from dagster._utils.error import SerializableErrorInfo

from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord, TagChange
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.keys import CLEANUP, NOTHING_LEFT, PATCHED, REBUILT, asset_key, base_key, released_key
from aml_images_dagster.defs.notifications import definitions
from aml_images_dagster.defs.request import PULL_REQUEST_TAG
from aml_images_dagster.defs.run import Factory
from aml_images_dagster.defs.schedules.release_day import RELEASED_ON_ITS_DAY
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.emulators.message_service import MessageService

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.defs.conftest import Load
    from tests.image_repository import ImageRepository

RULES = """\
owners:
  teams: {shells: shells}
  others: operators
rules:
  - events: [build_failed]
    to: [owners]
  - events: [release_done, rollback_done, release_late, base_paused, fix_overdue, cleanup_unhealthy, sensor_failing]
    to: [operators]
"""
SCHEDULE = """\
name: monthly
description: The month's updates.
cron: "0 9 * * 3#2"
timezone: UTC
selection: {images: ["*"]}
release: approval
"""
BUSYBOX = "docker.io/library/busybox:latest"
PAUSED = dg.AssetCheckKey(base_key(BUSYBOX), REBUILT)
LATE = dg.AssetCheckKey(dg.AssetKey(["schedules", "monthly"]), RELEASED_ON_ITS_DAY)
LEFT = dg.AssetCheckKey(CLEANUP, NOTHING_LEFT)
OVERDUE = dg.AssetCheckKey(released_key("tools/shell"), PATCHED)
UI = "http://127.0.0.1:3000"


class Scene:
    """The sensor on an instance, tick by tick.

    Attributes:
        cursor: What it remembers.
        said: What its last tick has said.
    """

    def __init__(self, factory: Factory, instance: dg.DagsterInstance) -> None:
        self.factory = factory
        self.instance = instance
        (self.sensor,) = definitions(factory).sensors or ()
        self.cursor: str | None = None
        self.said = ""
        self.tick()

    def tick(self) -> None:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor, self.said = result.cursor, str(result.skip_reason.skip_message if result.skip_reason else "")

    def build_fails(self, image: str, **tags: str) -> str:
        @dg.asset(key=asset_key(image, "staged"))
        def staged() -> None:
            raise dg.Failure("the compiler is missing")

        run = dg.materialize([staged], instance=self.instance, raise_on_error=False, tags=tags)
        return run.run_id

    def evaluate(self, check: dg.AssetCheckKey, *, passed: bool, is_error: bool = True) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=check.asset_key,
                check_name=check.name,
                passed=passed,
                severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
                description=f"{check.name} is {passed}",
            )
        )

    def plan(self, check: dg.AssetCheckKey) -> None:
        """A run begins that is to execute a check."""
        run = dg.DagsterRun("scan_production", status=dg.DagsterRunStatus.STARTED)
        self.instance.add_run(run)
        planned = AssetCheckEvaluationPlanned(asset_key=check.asset_key, check_name=check.name)
        event = DagsterEvent(
            DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value, run.job_name, event_specific_data=planned
        )
        self.instance.report_dagster_event(event, run.run_id)

    def sensor_ticks(self, name: str, status: Status) -> None:
        location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("images"), "repository")
        origin = RemoteInstigatorOrigin(location, name)
        state = InstigatorState(
            origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData(min_interval=30)
        )
        if not self.instance.all_instigator_state():
            self.instance.add_instigator_state(state)
        self.instance.create_tick(
            TickData(
                origin.get_id(),
                name,
                InstigatorType.SENSOR,
                status,
                datetime.now(UTC).timestamp(),
                error=SerializableErrorInfo("the registry is away\n", [], None) if status is Status.FAILURE else None,
                selector_id=state.selector_id,
            )
        )

    def release(self, *, done: bool) -> None:
        change = TagChange(image="tools/shell", repository="public/shell", tag="latest", before=None, after="sha256:1")
        record = ReleaseRecord(
            number=1,
            action="release",
            begun=1 if done else None,
            who="ada",
            when=datetime.now(UTC),
            build="20261123.4f2a9c1e",
            commit="abc",
            built=datetime.now(UTC),
            release_tag="20261123.v1",
            changes=(change,),
        )
        Ledger(self.factory.backends.artifacts).append(record)


@pytest.fixture
def service() -> Iterator[MessageService]:
    with MessageService() as service:
        yield service


@pytest.fixture
def scene(repository: ImageRepository, service: MessageService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    repository.write(repository.root / "notifications.yaml", RULES)
    repository.write(repository.root / "schedules" / "monthly.yaml", SCHEDULE)
    repository.write(repository.folder("tools/shell") / "image.json", '{"owners": ["team:shells"]}')
    for channel in ("shells", "operators"):
        monkeypatch.setenv(f"AML_IMAGES_NOTIFY_{channel.upper()}", service.address(channel))
    settings = load_settings(repo=repository.root, docker_host="unix:///nowhere.sock")
    with dg.instance_for_test() as instance:
        yield Scene(Factory(settings, load_source(settings), backends_for(settings)), instance)


def test_a_failed_build_reaches_the_owners_of_the_image_once(scene: Scene, service: MessageService) -> None:
    run_id = scene.build_fails("tools/shell")
    scene.tick()
    ((channel, title, message),) = service.messages
    assert channel == "shells"
    assert title.endswith(f"{run_id[:8]} failed: tools/shell")
    assert message == f"the compiler is missing\n\n{UI}/runs/{run_id}"
    scene.tick()
    scene.build_fails("apps/other")
    scene.tick()
    scene.tick()
    assert [channel for channel, _ in service.titles] == ["shells", "operators"]
    assert scene.said == "nothing to send"


def test_no_one_is_notified_of_pull_requests_and_of_what_was_before_the_first_tick(
    scene: Scene, service: MessageService
) -> None:
    scene.build_fails("tools/shell", **{PULL_REQUEST_TAG: "7"})
    scene.tick()
    scene.cursor = None
    scene.build_fails("tools/shell")
    scene.release(done=True)
    scene.tick()
    scene.tick()
    assert service.messages == []


def test_a_release_is_sent_when_it_is_done(scene: Scene, service: MessageService) -> None:
    scene.release(done=False)
    scene.tick()
    assert service.messages == []
    scene.release(done=True)
    scene.tick()
    scene.tick()
    ((channel, title, message),) = service.messages
    assert (channel, title) == ("operators", "Release of 20261123.v1 is done: tools/shell")
    assert message.startswith("by ada, of build 20261123.4f2a9c1e\nimages: tools/shell")
    assert message.endswith(f"{UI}/locations/aml_images_dagster/asset-groups/production")


@pytest.mark.parametrize(
    ("check", "title"),
    [
        (LEFT, "The cleanup of a build is not complete"),
        (LATE, "The build of schedule monthly was not released on its day"),
        (PAUSED, f"Builds for the base {BUSYBOX} are paused"),
        (OVERDUE, "A fix that tools/shell lacks is overdue"),
    ],
)
def test_a_check_that_turns_is_sent_once_until_it_passes_again(
    scene: Scene, service: MessageService, check: dg.AssetCheckKey, title: str
) -> None:
    scene.evaluate(check, passed=False, is_error=False)
    scene.tick()
    assert service.messages == [], "a warning: the next try may do"
    for _ in range(3):
        scene.evaluate(check, passed=False)
        scene.tick()
    ((channel, sent, message),) = service.messages
    assert (channel, sent) == ("operators", title)
    assert message.startswith(f"{check.name} is False\n\n{UI}/assets/{'/'.join(check.asset_key.path)}?view=checks")
    scene.evaluate(check, passed=True)
    scene.tick()
    scene.evaluate(check, passed=False)
    scene.tick()
    assert service.titles == [("operators", title)] * 2


def test_a_check_that_is_being_executed_has_its_last_result(scene: Scene, service: MessageService) -> None:
    scene.evaluate(OVERDUE, passed=False)
    scene.plan(OVERDUE)
    scene.tick()
    assert service.titles == [("operators", "A fix that tools/shell lacks is overdue")]


def test_a_sensor_is_sent_when_it_turns_red(scene: Scene, service: MessageService) -> None:
    for status in (Status.SKIPPED, Status.FAILURE, Status.FAILURE, Status.STARTED):
        scene.sensor_ticks("upstream_bases", status)
        scene.tick()
    ((channel, title, message),) = service.messages
    assert (channel, title) == ("operators", "Sensor upstream_bases fails")
    assert message == f"the registry is away\n\n{UI}/locations/aml_images_dagster/sensors/upstream_bases"


def test_a_service_that_is_down_is_tried_again_at_the_next_tick(scene: Scene, service: MessageService) -> None:
    service.fault = 503
    scene.build_fails("tools/shell")
    scene.tick()
    assert scene.said == "nothing to send; 1 message sent again at the next tick"
    service.fault = 0
    scene.tick()
    assert scene.said == "1 message sent"
    assert len(service.messages) == 2, "one was refused"


def test_rules_that_became_wrong_turn_the_sensor_red(scene: Scene, repository: ImageRepository) -> None:
    repository.write(repository.root / "notifications.yaml", RULES.replace("teams:", "team:"))
    with pytest.raises(BadInput, match=r"notifications.yaml:2: error: unknown key"):
        scene.tick()


def test_only_a_repository_with_rules_has_the_sensor(repository: ImageRepository, load: Load) -> None:
    def sensors() -> set[str]:
        return {sensor.name for sensor in load(repository).sensors or ()}

    assert "notifications" not in sensors()
    repository.write(repository.root / "notifications.yaml", RULES)
    assert "notifications" in sensors()
