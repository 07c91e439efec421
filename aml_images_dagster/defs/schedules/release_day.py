"""Checks of scheduled builds: whether they were released on their day, and have the month's Windows updates.

Each schedule is an asset with these checks, so that a late one is unhealthy in the UI.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import dagster as dg

from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.steps.parents import released
from aml_images_dagster.defs.keys import SCHEDULES_GROUP
from aml_images_dagster.defs.release.launchpad import release_links
from aml_images_dagster.defs.request import RELEASE_BY_TAG, SCHEDULE_TAG
from aml_images_dagster.defs.run import Factory, images_of
from aml_images_dagster.defs.ticks import sensor_status, skips_while_unreachable
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.schedules import Schedule, Timetable, patches_to_come

RELEASED_ON_ITS_DAY = "released_on_its_day"
PATCHED = "holds_the_months_updates"


@dataclass(frozen=True, slots=True)
class DayResult:
    """What a check of a schedule found.

    Attributes:
        passed: Whether all is well.
        found: What was found, in a sentence.
        is_error: Whether it is more than a warning.
        build: The build that waits for a person to release it; empty when none does.
    """

    passed: bool
    found: str
    is_error: bool = False
    build: str = ""

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """How grave it is."""
        return dg.AssetCheckSeverity.ERROR if self.is_error else dg.AssetCheckSeverity.WARN

    @property
    def metadata(self) -> dict[str, dg.MarkdownMetadataValue]:
        """What a person can do about it."""
        return {"release": release_links(self.build)} if self.build else {}


_FOUND_NOTHING = DayResult(True, "no build yet")


def release_day_assets(timetable: Timetable) -> list[dg.AssetSpec]:
    """One asset for each schedule whose builds are meant for release, or for the month's updates."""
    return [
        dg.AssetSpec(
            schedule_key(schedule),
            group_name=SCHEDULES_GROUP,
            description=f"{schedule.file.description} Its schedule is {schedule.dagster_name} ({schedule.path}).",
            metadata={"cron": schedule.file.cron, "timezone": schedule.file.timezone, "release": schedule.file.release},
        )
        for schedule in timetable.schedules
        if schedule_checks(schedule)
    ]


def release_day_checks(timetable: Timetable) -> list[dg.AssetChecksDefinition]:
    """The checks of these assets; to execute one is to look now."""
    return [_check(schedule, name) for schedule in timetable.schedules for name in schedule_checks(schedule)]


def schedule_key(schedule: Schedule) -> dg.AssetKey:
    """Key of the asset of a schedule."""
    return dg.AssetKey([SCHEDULES_GROUP, schedule.file.name])


def _released_on_its_day(
    schedule: Schedule, instance: dg.DagsterInstance, factory: Factory, now: datetime
) -> DayResult:
    """The last scheduled build, or one after it, is in production by the end of its day."""
    record = _last_build(schedule, instance)
    if record is None:
        return _FOUND_NOTHING
    run = record.dagster_run
    if RELEASE_BY_TAG not in run.tags:  # of a time when the schedule was not meant for release
        return _FOUND_NOTHING
    by = datetime.fromisoformat(run.tags[RELEASE_BY_TAG]).astimezone(ZoneInfo(schedule.file.timezone))
    built = _built_since(record.create_timestamp, factory)
    # One that was removed from the repository since is waited for no more.
    images = sorted(images_of(record, factory.backends.artifacts) & factory.source.catalog.images.keys())
    waiting = [image for image in images if not _is_in_production(image, built.get(image, set()), factory)]
    number = build_number(run.run_id, record.create_timestamp)
    build = f"the build of {record.create_timestamp.astimezone(by.tzinfo):%d %B %Y}, {number},"
    if not waiting:
        return DayResult(True, f"{build} is released")
    late, approval = now >= by, False
    if run.is_failure_or_canceled:
        state = "failed"
    elif not run.is_finished:
        state = "has not ended"
    else:
        approval = schedule.file.release == "approval"
        state = "waits for approval" if approval else "is about to be released"
    told = f"{build} {state}; it was to be released by" if late else f"{build} {state}; to be released by"
    return DayResult(
        passed=not late and state != "failed",
        found=f"{'LATE: ' if late else ''}{told} {by:%d %B %H:%M %Z}: {', '.join(waiting)}",
        is_error=late,
        build=number if approval else "",
    )


def _holds_the_months_updates(
    schedule: Schedule, instance: dg.DagsterInstance, factory: Factory, _: datetime
) -> DayResult:
    """The last scheduled build came after Patch Tuesday, or its images were built again after it."""
    record = _last_build(schedule, instance)
    if record is None:
        return _FOUND_NOTHING
    tick = record.create_timestamp.astimezone(ZoneInfo(schedule.file.timezone))
    patches = patches_to_come(tick)
    if patches is None:
        return DayResult(True, f"the build of {tick:%d %B %Y} came after Patch Tuesday")
    built = _built_since(patches, factory)
    without = sorted(images_of(record, factory.backends.artifacts) - built.keys())
    told = f"the build of {tick:%d %B %Y} came before Patch Tuesday, {patches:%d %B}"
    if without:
        return DayResult(False, f"{told}; not built again since: {', '.join(without)}")
    return DayResult(True, f"{told}; its images were built again since")


def _last_build(schedule: Schedule, instance: dg.DagsterInstance) -> dg.RunRecord | None:
    records = instance.get_run_records(dg.RunsFilter(tags={SCHEDULE_TAG: schedule.file.name}), limit=1)
    return records[0] if records else None


def _built_since(moment: datetime, factory: Factory) -> dict[str, set[str]]:
    """Digests of the images of complete builds that began at a moment or later."""
    digests: dict[str, set[str]] = {}
    first_day = f"{moment.astimezone(UTC):%Y%m%d}"
    for folder in factory.backends.artifacts.folders():
        with suppress(FactoryError, OSError):  # the cleanup reports builds that cannot be read
            record = folder.read_build() if folder.build >= first_day else None
            if record is None or record.status != "succeeded" or record.created < moment:
                continue
            for image in record.images:
                staged = folder.read_staged(image)
                if staged is not None:
                    digests.setdefault(image, set()).add(staged.digest)
    return digests


def _is_in_production(name: str, digests: set[str], factory: Factory) -> bool:
    image = factory.source.catalog.images.get(name)
    latest = released(image, factory.backends, factory.settings) if image and digests else None
    return latest is not None and latest.digest in digests


Look = Callable[[Schedule, dg.DagsterInstance, Factory, datetime], DayResult]


def schedule_checks(schedule: Schedule) -> dict[str, Look]:
    """The checks of a schedule by name; they depend on its file."""
    checks: dict[str, Look] = {}
    if schedule.file.release != "none":
        checks[RELEASED_ON_ITS_DAY] = _released_on_its_day
    if schedule.file.after_patch_tuesday:
        checks[PATCHED] = _holds_the_months_updates
    return checks


def _check(schedule: Schedule, name: str) -> dg.AssetChecksDefinition:
    look = schedule_checks(schedule)[name]

    @dg.asset_check(asset=schedule_key(schedule), name=name, description=look.__doc__)
    def check(context: dg.AssetCheckExecutionContext, factory: dg.ResourceParam[Factory]) -> dg.AssetCheckResult:
        verdict = look(schedule, context.instance, factory, datetime.now(UTC))
        return dg.AssetCheckResult(
            passed=verdict.passed, severity=verdict.severity, description=verdict.found, metadata=verdict.metadata
        )

    return check


def release_day_sensor(factory: Factory) -> dg.SensorDefinition:
    """The sensor that executes the checks, and reports when one has changed."""

    @dg.sensor(
        name="release_day",
        description="Checks that scheduled builds were released on their day; late ones become unhealthy.",
        minimum_interval_seconds=300,
        default_status=sensor_status(factory.settings),
    )
    @skips_while_unreachable
    def release_day(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before = json.loads(context.cursor or "{}")
        now = datetime.now(UTC)
        verdicts = {
            (schedule, name): look(schedule, context.instance, factory, now)
            for schedule in factory.timetable.schedules
            for name, look in schedule_checks(schedule).items()
        }
        told = {f"{schedule.file.name}.{name}": verdict.found for (schedule, name), verdict in verdicts.items()}
        return dg.SensorResult(
            skip_reason="; ".join(f"{name}: {found}" for name, found in told.items()) or "nothing is to be released",
            cursor=json.dumps(told),
            asset_events=[
                dg.AssetCheckEvaluation(
                    asset_key=schedule_key(schedule),
                    check_name=name,
                    passed=verdict.passed,
                    severity=verdict.severity,
                    description=verdict.found,
                    metadata=verdict.metadata,
                )
                for (schedule, name), verdict in verdicts.items()
                if before.get(f"{schedule.file.name}.{name}") != verdict.found
            ],
        )

    return release_day
