"""Events: what has happened since the last evaluation, and what is not as it should be.

A condition is sent when it begins to hold. To have another check watched, add it to `watched_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.ledger import Ledger, released_images
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.defs.keys import (
    CLEANUP,
    LOCATION,
    NOTHING_LEFT,
    PATCHED,
    PRODUCTION_GROUP,
    REBUILT,
    base_key,
    image_of,
    images_with_assets,
    released_key,
)
from aml_images_dagster.defs.operations.cleanup import is_build
from aml_images_dagster.defs.request import PULL_REQUEST_TAG, images_tag
from aml_images_dagster.defs.run import images_of
from aml_images_dagster.defs.run_state import first_failure
from aml_images_dagster.defs.schedules.release_day import RELEASED_ON_ITS_DAY, schedule_checks, schedule_key
from aml_images_dagster.defs.ticks import last_ticks
from aml_images_dagster.notifications.notification import Notification
from aml_images_dagster.upstream import external_bases, is_fixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dagster import AssetCheckEvaluation
    from dagster._core.scheduler.instigation import InstigatorState
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

    from aml_images_dagster.builds.ledger import Action, ReleaseRecord
    from aml_images_dagster.defs.run import Factory
    from aml_images_dagster.notifications.rules import Kind

_AT_ONCE = 50

FAILURES, CHANGES = "failures", "changes"
"""The names of the two positions."""
_LOOKED_BACK = 5


def failed_builds(
    instance: dg.DagsterInstance, factory: Factory, after: int | None
) -> tuple[list[Notification], int | None]:
    """Builds that have failed, oldest first, and the position after them. Pull requests have a report of their own.

    Args:
        instance: Where the runs are.
        factory: Of the code location.
        after: The position up to which they are known; None takes all that are there as known.
    """
    if after is None:
        newest = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).records
        return [], newest[0].storage_id if newest else 0
    asked = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=after)
    records = instance.fetch_run_status_changes(asked, limit=_AT_ONCE, ascending=True).records
    runs = dict.fromkeys(record.run_id for record in records)
    found = [notification for run_id in runs for notification in _failed_build(run_id, instance, factory)]
    return found, records[-1].storage_id if records else after


def _failed_build(run_id: str, instance: dg.DagsterInstance, factory: Factory) -> Iterator[Notification]:
    record = instance.get_run_record_by_id(run_id)
    if record is None or PULL_REQUEST_TAG in record.dagster_run.tags or not is_build(instance, run_id):
        return
    build = build_number(run_id, record.create_timestamp)
    failure = first_failure(instance, run_id)
    images = _images_of_step(failure.step if failure else "", run_id, instance) or sorted(
        images_of(record, factory.backends.artifacts)
    )
    of_what = f": {images_tag(images)}" if images else ""
    yield Notification(
        kind="build_failed",
        key=f"build_failed {build}",
        title=f"Build {build} failed{of_what}",
        reason=failure.message if failure else "the run has failed",
        link=page(factory, f"runs/{run_id}"),
        images=tuple(images),
    )


def _images_of_step(step: str, run_id: str, instance: dg.DagsterInstance) -> list[str]:
    """The image whose step has failed first; none for a step of all images, such as that of the release files."""
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    for record in instance.get_records_for_run(run_id, of_type=planned).records if step else ():
        event = record.event_log_entry.dagster_event
        if event and event.step_key == step and event.asset_key and (split := image_of(event.asset_key)):
            # The step of the release files makes the last assets of all images.
            return [split[0]] if split[1] in ("staged", "tested") else []
    return []


_DONE: dict[Action, Kind] = {
    "release": "release_done",
    "rollback": "rollback_done",
    "withdrawal": "withdrawal_done",
}


def production_changes(factory: Factory, after: int | None) -> tuple[list[Notification], int]:
    """Releases, rollbacks and withdrawals that were completed, from any machine, and the position after them.

    Args:
        factory: Of the code location.
        after: Number of the last record that is known; None takes all as known.
    """
    records = Ledger(factory.backends.artifacts).records()
    last = records[-1].number if records else 0
    new = [record for record in records if after is not None and record.number > after and record.done]
    return [_production_change(record, factory) for record in new], max(last, after or 0)


def _production_change(record: ReleaseRecord, factory: Factory) -> Notification:
    images = sorted(released_images([record]))
    lines = [f"by {record.who}, of build {record.build}", f"images: {', '.join(images)}"]
    lines += [f"reason: {record.reason}"] if record.reason else []
    lines += [f"outside of the release windows: {record.outside_window}"] if record.outside_window else []
    return Notification(
        kind=_DONE[record.action],
        key=f"{record.action} {record.number}",
        title=f"{record.action.capitalize()} of {record.release_tag} is done: {images_tag(images)}",
        reason="\n".join(lines),
        link=page(factory, f"locations/{LOCATION}/asset-groups/{PRODUCTION_GROUP}"),
        images=tuple(images),
    )


def page(factory: Factory, path: str) -> str:
    """Address of a page of the UI."""
    return f"{factory.settings.pull_requests.ui_url.rstrip('/')}/{path}"


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
