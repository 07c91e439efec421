"""What is not as it should be: asset checks that fail, and sensors and schedules whose last tick has failed.

A condition is sent when it begins to hold. To have another check watched, add it to `watched_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.keys import (
    CLEANUP,
    LOCATION,
    NOTHING_LEFT,
    PATCHED,
    REBUILT,
    base_key,
    images_with_assets,
    released_key,
)
from aml_images_dagster.defs.notifications.events import page
from aml_images_dagster.defs.schedules.release_day import RELEASED_ON_ITS_DAY, schedule_checks, schedule_key
from aml_images_dagster.defs.ticks import last_ticks
from aml_images_dagster.notifications.notification import Notification
from aml_images_dagster.upstream.bases import external_bases, is_fixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dagster import AssetCheckEvaluation
    from dagster._core.scheduler.instigation import InstigatorState
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

    from aml_images_dagster.defs.run import Factory
    from aml_images_dagster.notifications.rules import Kind

_LOOKED_BACK = 5


@dataclass(frozen=True, slots=True)
class WatchedCheck:
    """An asset check whose failure is a condition.

    Attributes:
        kind: What it is notified as.
        check: The check.
        title: One line.
        images: The images that it is about; may be none.
        errors_only: Whether a warning counts as well.
    """

    kind: Kind
    check: dg.AssetCheckKey
    title: str
    images: tuple[str, ...] = ()
    errors_only: bool = True

    def fails(self, evaluation: AssetCheckEvaluation) -> bool:
        """Whether the condition holds."""
        is_error = evaluation.severity is dg.AssetCheckSeverity.ERROR
        return not evaluation.passed and (is_error or not self.errors_only)


def watched_checks(factory: Factory) -> list[WatchedCheck]:
    """Every check that is watched."""
    nothing_left = WatchedCheck(
        "cleanup_unhealthy", dg.AssetCheckKey(CLEANUP, NOTHING_LEFT), "The cleanup of a build is not complete"
    )
    late = [
        WatchedCheck(
            "release_late",
            dg.AssetCheckKey(schedule_key(schedule), RELEASED_ON_ITS_DAY),
            f"The build of schedule {schedule.file.name} was not released on its day",
        )
        for schedule in factory.timetable.schedules
        if RELEASED_ON_ITS_DAY in schedule_checks(schedule)
    ]
    images_here = images_with_assets(factory.source.catalog)
    overdue = [
        WatchedCheck(
            "fix_overdue",
            dg.AssetCheckKey(released_key(image.id), PATCHED),
            f"A fix that {image.id} lacks is overdue",
            (image.id,),
        )
        for image in images_here
    ]
    paused = [
        WatchedCheck(
            "base_paused", dg.AssetCheckKey(base_key(base), REBUILT), f"Builds for the base {base} are paused", images
        )
        for base, images in external_bases(images_here).items()
        if not is_fixed(base)
    ]
    return [nothing_left, *late, *paused, *overdue]


def failing_checks(
    instance: dg.DagsterInstance, factory: Factory, watched: Sequence[WatchedCheck]
) -> Iterator[Notification]:
    """The watched checks that fail, by their last completed evaluation."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([each.check for each in watched])
    for each in watched:
        record = latest.get(each.check)
        evaluation = _result(record) if record else None
        if record and evaluation is None:  # it is being executed: what it said before counts
            history = instance.event_log_storage.get_asset_check_execution_history(each.check, limit=_LOOKED_BACK)
            evaluation = next(filter(None, map(_result, history)), None)
        if evaluation is not None and each.fails(evaluation):
            left = evaluation.metadata.get("left")
            yield Notification(
                kind=each.kind,
                key=f"{each.kind} {each.check.to_user_string()}",
                title=each.title,
                reason=evaluation.description or (f"left: {left.value}" if left else "the check fails"),
                link=page(factory, f"assets/{'/'.join(each.check.asset_key.path)}?view=checks"),
                images=each.images,
            )


def _result(record: AssetCheckExecutionRecord) -> AssetCheckEvaluation | None:
    """What an execution has said; None while it runs, when Dagster has its plan there."""
    evaluation = record.evaluation
    return evaluation if isinstance(evaluation, dg.AssetCheckEvaluation) else None


def failing_sensors(instance: dg.DagsterInstance, factory: Factory) -> Iterator[Notification]:
    """Sensors and schedules that are on and whose last completed tick has failed."""
    for state, tick in last_ticks(instance):
        if tick.is_failure:
            error = tick.error
            what, where = _sensor_page(state)
            yield Notification(
                kind="sensor_failing",
                key=f"sensor_failing {state.name}",
                title=f"{what} {state.name} fails",
                reason=error.message.strip() if error else "its last tick has failed",
                link=page(factory, where),
            )


def _sensor_page(state: InstigatorState) -> tuple[str, str]:
    is_schedule = state.instigator_type.name == "SCHEDULE"
    what, pages = ("Schedule", "schedules") if is_schedule else ("Sensor", "sensors")
    return what, f"locations/{LOCATION}/{pages}/{state.name}"
