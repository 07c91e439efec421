"""The janitor: finds builds whose run is over but that are not taken back, and takes them back.

It is the last of four layers (docs/reliability.md). It needs no event: it looks at what the builds have written down,
asks what became of their runs, and looks again at builds that ended lately, because a step whose run was killed goes
on and can still push after the clean-up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.build.cleanup import CleanupReport, CleanupRow, anything_left, read_report, take_back
from aml_images_dagster.build.parents import released
from aml_images_dagster.errors import FactoryError, Unreachable

if TYPE_CHECKING:
    from aml_images_dagster.build.artifacts import BuildFolder
    from aml_images_dagster.build.parts import Parts
    from aml_images_dagster.build.records import BuildRecord, BuildStatus
    from aml_images_dagster.build.session import Source
    from aml_images_dagster.settings import Settings

RunState = Literal["alive", "succeeded", "failed", "canceled", "unknown"]

StateOf = Callable[[str], RunState]
"""What became of a run, by its id; `unknown` for a run of another instance."""

_LOOK_AGAIN = timedelta(hours=1)
_FIRST_RETRY = timedelta(seconds=15)
_LONGEST_BACK_OFF = timedelta(seconds=30)
"""Short, because whoever is away may be back at any moment, and then nothing is to be left a minute later."""


def sweep(parts: Parts, settings: Settings, source: Source, state_of: StateOf, now: datetime) -> list[CleanupReport]:
    """Take back every build that is due; a build that cannot be looked at is reported as not clean.

    Args:
        parts: Where to look.
        settings: How long what is kept.
        source: The catalogue, which tells where released images are.
        state_of: What became of a run.
        now: The time, UTC.
    """
    reports = []
    for folder in parts.artifacts.folders():
        try:
            record = folder.read_build()
            status = _due(folder, record, parts, settings, source, state_of, now) if record else None
            if status is not None:
                reports.append(take_back(folder.build, parts, status, now))
        except (FactoryError, OSError) as error:
            reports.append(_not_looked_at(folder.build, error, now))
    return reports


def _due(
    folder: BuildFolder,
    record: BuildRecord,
    parts: Parts,
    settings: Settings,
    source: Source,
    state_of: StateOf,
    now: datetime,
) -> BuildStatus | None:
    """The status with which a build is to be taken back now; None when it is to be left alone."""
    if record.status in ("running", "partial"):
        state = state_of(record.run_id)
        if state == "failed" or state == "canceled":
            return state
        is_old = now - record.created > timedelta(days=settings.keep_staged_days)
        return "expired" if is_old and state != "alive" else None
    if record.status in ("failed", "canceled"):
        return record.status if _look_again(folder, record, parts, now) else None
    if record.status == "succeeded" and now - record.created > timedelta(days=settings.keep_staged_days):
        return None if _is_released(folder, record, parts, settings, source) else "expired"
    return None


def _look_again(folder: BuildFolder, record: BuildRecord, parts: Parts, now: datetime) -> bool:
    if record.keep_until is not None and record.keep_until > now:
        return False
    last = read_report(folder)
    if last is None:
        return True
    if not last.clean:
        return now - last.finished > min(_FIRST_RETRY * (1 << min(last.attempts - 1, 20)), _LONGEST_BACK_OFF)
    try:
        return now - last.finished < _LOOK_AGAIN and anything_left(record.build, parts)
    except Unreachable:  # it was clean, and is looked at again when they are back
        return False


def _is_released(folder: BuildFolder, record: BuildRecord, parts: Parts, settings: Settings, source: Source) -> bool:
    """Whether production serves one of the images as the latest; then the build must stay importable."""
    for name in record.images:
        staged, image = folder.read_staged(name), source.catalogue.images.get(name)
        production = released(image, parts, settings) if image else None
        if staged is not None and production is not None and production.digest == staged.digest:
            return True
    return False


def _not_looked_at(build: str, error: Exception, now: datetime) -> CleanupReport:
    row = CleanupRow(kind="build", name=build, outcome="left", detail=str(error))
    return CleanupReport(build=build, rows=(row,), clean=False, attempts=1, finished=now)
