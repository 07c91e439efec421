"""Scheduled builds that are released on their day, late, or without the month's Windows updates."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.builds.records import BuildRecord, StagedImage
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.keys import BUILD_JOB
from aml_images_dagster.defs.request import RELEASE_BY_TAG, SCHEDULE_TAG, build_keys
from aml_images_dagster.defs.run import FACTORY, Factory
from aml_images_dagster.defs.schedules.release_day import (
    PATCHED,
    RELEASED_ON_ITS_DAY,
    release_day_checks,
    release_day_sensor,
    schedule_checks,
    schedule_key,
)
from aml_images_dagster.registry.copy import copy_image
from tests.defs.schedules.test_schedules import PATCH_DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.defs.schedules.release_day import DayResult
    from aml_images_dagster.registry.oci import OciRegistry
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

PACIFIC = ZoneInfo("America/Los_Angeles")
WEDNESDAY = datetime(2026, 11, 11, 9, tzinfo=PACIFIC)
STAGED = {
    "reference": "",
    "os": "linux",
    "architecture": "amd64",
    "size_bytes": 1,
    "layers": 1,
    "seconds": 1,
    "reasons": [],
    "content_key": {"dockerfile": "", "files": {}, "build_args": {}, "platform": "", "bases": {}},
    "bases": [],
    "built_in": "",
    "dockerfile": "",
    "notices": {},
}
TRAPPED = datetime(2026, 7, 8, 9, tzinfo=PACIFIC)


class Scene:
    """A schedule of one image, its builds, and production."""

    def __init__(
        self,
        repository: ImageRepository,
        factory: Factory,
        instance: dg.DagsterInstance,
        push: Callable[[str, str], Reference],
        registries: tuple[OciRegistry, OciRegistry],
    ) -> None:
        self.repository = repository
        self.factory = factory
        self.instance = instance
        self.push = push
        self.staging, self.production = registries
        (self.schedule,) = factory.timetable.schedules
        self.image = repository.image("tools/shell")

    def build(
        self,
        created: datetime,
        status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS,
        release_by: datetime | None = None,
        *,
        for_release: bool = True,
    ) -> Reference:
        """A scheduled build; what it staged."""
        by = release_by or self.schedule.release_by(created.astimezone(PACIFIC))
        with freeze_time(created):
            self.instance.add_run(
                dg.DagsterRun(
                    BUILD_JOB,
                    status=status,
                    tags={SCHEDULE_TAG: "patch_day"} | ({RELEASE_BY_TAG: by.isoformat()} if for_release else {}),
                    asset_selection=frozenset(build_keys([self.image])),
                )
            )
        return self.complete(created, "succeeded" if status is dg.DagsterRunStatus.SUCCESS else "failed")

    def complete(self, created: datetime, status: str = "succeeded") -> Reference:
        """What a build leaves, whoever started it."""
        family, name = self.image.split("/")
        number = f"{created.astimezone(UTC):%Y%m%d}.{created.timestamp():08.0f}"[:17]
        pushed = self.push(family, f"{name}--{number}")
        folder = self.factory.backends.artifacts.build(number)
        about = {"build": number, "run_id": "", "commit": "", "source": "", "release_tag": "v1"}
        folder.write_build(
            BuildRecord.model_validate(about | {"created": created, "status": status, "images": (self.image,)})
        )
        staged = {"image": self.image, "digest": pushed.digest, "reference": str(replace(pushed, digest=""))}
        folder.write_staged(StagedImage.model_validate_json(json.dumps(STAGED | staged)))
        return pushed

    def release(self, pushed: Reference) -> None:
        name = self.image.partition("/")[2]
        repository = self.factory.settings.production_names.format(name=name, family="")
        copy_image(self.staging, self.production, pushed, repository, ["latest"])

    def look(self, name: str, now: datetime) -> DayResult:
        return schedule_checks(self.schedule)[name](self.schedule, self.instance, self.factory, now)


@pytest.fixture
def scene(
    image_repository: ImageRepository,
    settings: Settings,
    backends: Backends,
    push_new_image: Callable[[str, str], Reference],
    staging: OciRegistry,
    production: OciRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    text = PATCH_DAY.replace("{os: windows}", f"{{images: [{image_repository.image('tools/shell')}]}}")
    image_repository.write(image_repository.root / "schedules" / "patch_day.yaml", text)
    factory = Factory(settings, load_source(settings), backends)
    with dg.instance_for_test() as instance:
        yield Scene(image_repository, factory, instance, push_new_image, (staging, production))


def test_a_record_that_cannot_be_read_hides_no_other_build(scene: Scene) -> None:
    scene.release(scene.build(WEDNESDAY))
    write_atomically(scene.factory.backends.artifacts.build("20261111.ffffffff").root / "build.json", b"{")
    assert scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY).found.endswith("is released")


def test_no_build_is_fine(scene: Scene) -> None:
    assert scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY).passed
    assert scene.look(PATCHED, WEDNESDAY).passed


def test_a_build_waits_for_approval_and_is_late_the_next_day(scene: Scene) -> None:
    pushed = scene.build(WEDNESDAY)
    waits = scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY + timedelta(hours=14.9))
    assert waits.passed
    said = f"the build of 11 November 2026, {waits.build}, waits for approval; to be released by 12 November 00:00 PST"
    assert waits.found == f"{said}: {scene.image}"
    assert re.fullmatch(r"20261111\.[0-9a-f]{8}", waits.build)
    assert f"build%3A+{waits.build}" in str(waits.metadata["release"].value)
    late = scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY + timedelta(hours=15.1))
    assert not late.passed
    assert late.severity is dg.AssetCheckSeverity.ERROR
    assert late.found.startswith(
        f"LATE: the build of 11 November 2026, {waits.build}, waits for approval; it was to be"
    )
    scene.release(pushed)
    released = scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY + timedelta(days=2))
    assert (released.found, released.metadata) == (f"the build of 11 November 2026, {waits.build}, is released", {})


@pytest.mark.parametrize(
    ("status", "said"), [(dg.DagsterRunStatus.FAILURE, "failed"), (dg.DagsterRunStatus.STARTED, "has not ended")]
)
def test_a_build_that_fails_or_does_not_end_is_late_too(scene: Scene, status: dg.DagsterRunStatus, said: str) -> None:
    scene.build(WEDNESDAY, status)
    assert scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY).passed is (said != "failed")
    late = scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY + timedelta(days=1))
    assert not late.passed
    assert said in late.found


def test_a_later_build_of_the_same_images_fixes_it(scene: Scene) -> None:
    scene.build(WEDNESDAY, dg.DagsterRunStatus.FAILURE)
    scene.release(scene.complete(WEDNESDAY + timedelta(hours=3)))
    assert scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY + timedelta(days=1)).passed


def test_last_months_release_does_not_count(scene: Scene) -> None:
    scene.release(scene.complete(WEDNESDAY - timedelta(days=28)))
    scene.build(WEDNESDAY)
    assert not scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY + timedelta(days=1)).passed


def test_a_build_of_a_time_when_nothing_was_to_be_released_is_fine(scene: Scene) -> None:
    scene.build(WEDNESDAY, for_release=False)
    assert scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY + timedelta(days=1)).passed
    assert scene.look(PATCHED, WEDNESDAY).passed


def test_an_image_that_was_removed_since_is_not_waited_for(scene: Scene) -> None:
    scene.build(WEDNESDAY)
    shutil.rmtree(scene.repository.folder("tools/shell"))
    scene.repository.commit("removed")
    scene.factory.source = load_source(scene.factory.settings)
    assert scene.look(RELEASED_ON_ITS_DAY, WEDNESDAY + timedelta(days=1)).passed


def test_updates_that_come_after_the_build(scene: Scene) -> None:
    scene.build(TRAPPED)
    warned = scene.look(PATCHED, TRAPPED)
    assert not warned.passed
    assert warned.severity is dg.AssetCheckSeverity.WARN
    assert warned.found.startswith("the build of 08 July 2026 came before Patch Tuesday, 14 July; not built again")
    scene.complete(TRAPPED + timedelta(days=3))
    assert not scene.look(PATCHED, TRAPPED + timedelta(days=4)).passed
    scene.complete(TRAPPED + timedelta(days=7))
    assert scene.look(PATCHED, TRAPPED + timedelta(days=8)).passed


def test_updates_that_came_before(scene: Scene) -> None:
    scene.build(WEDNESDAY)
    assert scene.look(PATCHED, WEDNESDAY).found == "the build of 11 November 2026 came after Patch Tuesday"


def test_the_sensor_tells_what_has_changed_and_nothing_twice(scene: Scene) -> None:
    sensor = release_day_sensor(scene.factory)
    cursor, told = None, []
    now = datetime.now(UTC)
    for number, hours in enumerate((1, None, -1, None)):
        if hours:
            scene.build(now + timedelta(seconds=number), release_by=now + timedelta(hours=hours))
        result = sensor(dg.build_sensor_context(instance=scene.instance, cursor=cursor))
        assert isinstance(result, dg.SensorResult)
        assert result.skip_reason
        cursor = result.cursor
        told.append([(event.check_name, event.passed) for event in result.asset_events])  # type: ignore[union-attr]
    assert [[passed for name, passed in each if name == RELEASED_ON_ITS_DAY] for each in told] == [
        [True],
        [],
        [False],
        [],
    ]


def test_a_person_may_have_it_looked_at(scene: Scene) -> None:
    scene.build(WEDNESDAY)
    result = dg.materialize(
        [dg.AssetSpec(schedule_key(scene.schedule)), *release_day_checks(scene.factory.timetable)],  # type: ignore[list-item]
        resources={FACTORY: scene.factory},
        selection=dg.AssetSelection.all_asset_checks(),
        instance=scene.instance,
    )
    assert {evaluation.check_name for evaluation in result.get_asset_check_evaluations()} == {
        RELEASED_ON_ITS_DAY,
        PATCHED,
    }
