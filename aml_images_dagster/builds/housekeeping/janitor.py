"""The janitor: cleans up builds whose run has ended without a complete cleanup.

It is the last of four layers (docs/reliability.md). It needs no event: it reads the records of the builds and the
status of their runs. It checks builds that ended recently again, because a step whose run was killed continues
and can still push after the cleanup.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Literal, Protocol

from aml_images_dagster.builds.artifacts import DamagedRecord
from aml_images_dagster.builds.housekeeping.cleanup import (
    CleanupReport,
    anything_left,
    cleanup,
    not_done,
    read_report,
    remove_orphans,
    staged_references,
)
from aml_images_dagster.builds.housekeeping.repair import repair
from aml_images_dagster.builds.ledger import Ledger, is_claimed
from aml_images_dagster.builds.records import ENDED
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.builds.artifacts import BuildFolder
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import BuildFailure, BuildRecord, EndStatus
    from aml_images_dagster.settings import Settings

RunState = Literal["alive", "succeeded", "failed", "canceled", "unknown"]

_LOOK_AGAIN = timedelta(hours=1)
"""After the longest build: one that was started elsewhere by a process that was killed pushes at its end."""
_FIRST_RETRY = timedelta(seconds=15)
_LONGEST_BACK_OFF = timedelta(seconds=30)
"""Short, because a service may be back at any moment, and then nothing is to be left a minute later."""


class Runs(Protocol):
    """The state of the runs of builds."""

    def state(self, run_id: str) -> RunState:
        """The status of a run; `unknown` for a run of another instance."""

    def failure(self, run_id: str) -> BuildFailure | None:
        """Why a run failed; None unless it did. Its end is reported to callers that wait for it."""


def sweep(backends: Backends, settings: Settings, runs: Runs, now: datetime) -> list[CleanupReport]:
    """Clean up every build that is due; one that cannot be checked is tried again and unhealthy until then.

    Args:
        backends: Where to look.
        settings: Retention times.
        runs: The state of their runs.
        now: The time, UTC.
    """
    backends.artifacts.remove_plans(now - timedelta(days=settings.keep_staged_days))
    reports = []
    released = cache(Ledger(backends.artifacts).released_builds)
    for folder in backends.artifacts.unsettled():
        try:
            reports += _look_at(folder, backends, settings, runs, released, now)
        except Exception as error:  # noqa: BLE001 - one build must not keep the others from being cleaned up
            reports.append(not_done(folder, error))
    return _with_orphans(reports, backends)


def _with_orphans(reports: list[CleanupReport], backends: Backends) -> list[CleanupReport]:
    """Look for orphaned evidence wherever an image was removed: to look for it every time would cost too much."""
    with_orphans, looked_at = [], set[str]()
    for report in reports:
        removed = [row.name for row in report.rows if row.kind == "staged image" and row.outcome != "left"]
        repositories = {Reference.parse(name).repository for name in removed} - looked_at
        looked_at |= repositories
        rows = tuple(row for repository in sorted(repositories) for row in remove_orphans(repository, backends))
        with_orphans.append(report.model_copy(update={"rows": (*report.rows, *rows)}))
    return with_orphans


def due_builds(backends: Backends, settings: Settings, runs: Runs, now: datetime) -> list[str]:
    """The builds that are due for a cleanup. Nothing is changed.

    A build whose last cleanup was not complete is due as soon as all services that it needs answer.

    Args:
        backends: Where to look.
        settings: Retention times.
        runs: The state of their runs.
        now: The time, UTC.

    Raises:
        Unreachable: Nothing else is due, and the registry or the test machines of such a build do not answer.
    """
    due, away = [], None
    released = cache(Ledger(backends.artifacts).released_builds)
    for folder in backends.artifacts.unsettled():
        try:
            last = read_report(folder)
            if last is not None and _waits(last, now):
                continue
            if last is not None and not last.clean:
                staged_references(folder.build, backends)
                backends.runner.live(folder.build)
            record = folder.read_build()
            is_kept = partial(_is_kept, folder, released, now)
            if record is not None and (
                _due(record, last, backends, settings, runs, is_kept, now) is not None
                or _is_settled(record, last, settings, released, now)
            ):
                due.append(folder.build)
        except Unreachable as error:
            away = error
        except Exception:  # noqa: BLE001 - a sweep repairs it, or says why not
            due.append(folder.build)
    if away is not None and not due:
        raise away
    return due


def _look_at(
    folder: BuildFolder,
    backends: Backends,
    settings: Settings,
    runs: Runs,
    released: Callable[[], frozenset[str]],
    now: datetime,
) -> list[CleanupReport]:
    last = read_report(folder)
    if last is not None and _waits(last, now):
        return []
    record = _read(folder, backends)
    if record is None:
        return []
    is_kept = partial(_is_kept, folder, released, now)
    status = _due(record, last, backends, settings, runs, is_kept, now)
    if status is not None:
        failure = runs.failure(record.run_id) if status == "failed" else None
        return [cleanup(folder.build, backends, status, failure, now=now)]
    if _is_settled(record, last, settings, released, now):
        backends.artifacts.settle(folder.build)
        # A cleanup that has started meanwhile writes its report, and says that the build is not settled, in this order.
        if read_report(folder) != last:
            backends.artifacts.unsettle(folder.build)
    return []


def _is_kept(folder: BuildFolder, released: Callable[[], frozenset[str]], now: datetime) -> bool:
    """Whether a build is released, or its release is starting."""
    return folder.build in released() or is_claimed(folder, now)


def _read(folder: BuildFolder, backends: Backends) -> BuildRecord | None:
    try:
        return folder.read_build()
    except DamagedRecord:
        return repair(folder, backends)


def _waits(last: CleanupReport, now: datetime) -> bool:
    """Whether it is too early to repeat an incomplete cleanup."""
    if last.clean:
        return False
    return now - last.finished <= min(_FIRST_RETRY * (1 << min(last.attempts - 1, 20)), _LONGEST_BACK_OFF)


def _due(
    record: BuildRecord,
    last: CleanupReport | None,
    backends: Backends,
    settings: Settings,
    runs: Runs,
    is_kept: Callable[[], bool],
    now: datetime,
) -> EndStatus | None:
    """The status with which a build is to be cleaned up now; None if it is not due."""
    if record.status != "running" and record.status != "partial" and record.status != "succeeded":
        return record.status if _look_again(record, last, backends, settings, now) else None
    is_old = _is_old(record, settings, now)
    if record.status == "succeeded":
        return "expired" if is_old and not is_kept() else None
    state = runs.state(record.run_id)
    if state == "failed" or state == "canceled":
        return state
    return "expired" if is_old and state != "alive" else None


def _is_old(record: BuildRecord, settings: Settings, now: datetime) -> bool:
    return now - record.created > timedelta(days=settings.keep_staged_days)


def _is_settled(
    record: BuildRecord,
    last: CleanupReport | None,
    settings: Settings,
    released: Callable[[], frozenset[str]],
    now: datetime,
) -> bool:
    """Whether a build that nothing has to be done with now is settled."""
    if record.status == "succeeded":  # one that a release has only claimed may still expire
        return _is_old(record, settings, now) and record.build in released()
    if record.status not in ENDED or last is None or any(row.outcome == "kept" for row in last.rows):
        return False
    return last.clean and not _is_fresh(last, settings, now)


def _is_fresh(last: CleanupReport, settings: Settings, now: datetime) -> bool:
    """Whether a step that is still running, here or elsewhere, may push after a cleanup."""
    return now - last.finished < timedelta(minutes=settings.build_timeout_minutes) + _LOOK_AGAIN


def _look_again(
    record: BuildRecord, last: CleanupReport | None, backends: Backends, settings: Settings, now: datetime
) -> bool:
    if record.keep_until is not None and record.keep_until > now:
        return False
    if last is None or not last.clean or any(row.outcome == "kept" for row in last.rows):
        return True
    try:
        return _is_fresh(last, settings, now) and anything_left(record.build, backends)
    except Unreachable:  # it was clean, and is checked again when they are back
        return False
