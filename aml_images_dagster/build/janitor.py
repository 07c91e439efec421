"""The janitor: finds builds whose run is over but that are not cleaned up, and cleans them up.

It is the last of four layers (docs/reliability.md). It needs no event: it looks at what the builds have written down,
asks what became of their runs, and looks again at builds that ended lately, because a step whose run was killed goes
on and can still push after the cleanup.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

from aml_images_dagster.build.artifacts import DamagedRecord
from aml_images_dagster.build.cleanup import CleanupReport, anything_left, cleanup, not_done, read_report
from aml_images_dagster.build.healing import heal
from aml_images_dagster.build.ledger import Ledger
from aml_images_dagster.build.records import ENDED
from aml_images_dagster.errors import FactoryError, Unreachable

if TYPE_CHECKING:
    from aml_images_dagster.build.artifacts import BuildFolder
    from aml_images_dagster.build.parts import Parts
    from aml_images_dagster.build.records import BuildFailure, BuildRecord, BuildStatus
    from aml_images_dagster.settings import Settings

RunState = Literal["alive", "succeeded", "failed", "canceled", "unknown"]

_LOOK_AGAIN = timedelta(hours=1)
_FIRST_RETRY = timedelta(seconds=15)
_LONGEST_BACK_OFF = timedelta(seconds=30)
"""Short, because whoever is away may be back at any moment, and then nothing is to be left a minute later."""


class Runs(Protocol):
    """What became of the runs that the builds are."""

    def state(self, run_id: str) -> RunState:
        """How a run is; `unknown` for a run of another instance."""

    def failure(self, run_id: str) -> BuildFailure | None:
        """Why a run failed; None unless it did."""


def sweep(parts: Parts, settings: Settings, runs: Runs, now: datetime) -> list[CleanupReport]:
    """Clean up every build that is due; one that cannot be looked at is tried again and unhealthy until then.

    Args:
        parts: Where to look.
        settings: How long what is kept.
        runs: What became of the runs.
        now: The time, UTC.
    """
    reports = []
    for folder in parts.artifacts.folders():
        last = read_report(folder)
        if last is not None and _waits(last, now):
            continue
        try:
            record = _read(folder, parts)
            status = _due(record, last, parts, settings, runs, now) if record else None
            if record is not None and status is not None:
                failure = runs.failure(record.run_id) if status == "failed" else None
                reports.append(cleanup(folder.build, parts, status, failure, now=now))
        except (FactoryError, OSError) as error:
            reports.append(not_done(folder, error))
    return reports


def _read(folder: BuildFolder, parts: Parts) -> BuildRecord | None:
    try:
        return folder.read_build()
    except DamagedRecord:
        return heal(folder, parts)


def _waits(last: CleanupReport, now: datetime) -> bool:
    """Whether it is too early to try again what could not be finished."""
    if last.clean:
        return False
    return now - last.finished <= min(_FIRST_RETRY * (1 << min(last.attempts - 1, 20)), _LONGEST_BACK_OFF)


def _due(
    record: BuildRecord,
    last: CleanupReport | None,
    parts: Parts,
    settings: Settings,
    runs: Runs,
    now: datetime,
) -> BuildStatus | None:
    """The status with which a build is to be cleaned up now; None when it is to be left alone."""
    if record.status in ENDED:
        return record.status if _look_again(record, last, parts, now) else None
    is_old = now - record.created > timedelta(days=settings.keep_staged_days)
    if record.status == "succeeded":
        return "expired" if is_old and record.build not in Ledger(parts.artifacts).released_builds() else None
    state = runs.state(record.run_id)
    if state == "failed" or state == "canceled":
        return state
    return "expired" if is_old and state != "alive" else None


def _look_again(record: BuildRecord, last: CleanupReport | None, parts: Parts, now: datetime) -> bool:
    if record.keep_until is not None and record.keep_until > now:
        return False
    if last is None or not last.clean or any(row.outcome == "kept" for row in last.rows):
        return True
    try:
        return now - last.finished < _LOOK_AGAIN and anything_left(record.build, parts)
    except Unreachable:  # it was clean, and is looked at again when they are back
        return False
