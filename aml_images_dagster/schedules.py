"""Builds at fixed times: the files of `schedules/`, and Patch Tuesday.

On Patch Tuesday Microsoft publishes the month's Windows updates, and with them new Windows base images: on the second
Tuesday of the month at 10:00 Pacific time. Source:
https://learn.microsoft.com/en-us/windows/deployment/update/release-cycle.
"""

from __future__ import annotations

import calendar
import difflib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.validated_file import StrictModel, read_model_file
from aml_images_dagster.messages import form

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.catalog.catalog import Catalog, Reasons
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_FIELD = re.compile(r"[0-9*,/-]+")
_WEEKDAY = re.compile(r"[0-9*,/-]+|[0-7]#[1-5]")
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_SPAN = timedelta(days=12 * 366)
"""Long enough for every distance between days of a weekday, a month and a leap year to come up."""
FOLDER = "schedules"
"""Where the files are, at the top of a repository."""
_ENDING = ".yaml"
_PACIFIC = ZoneInfo("America/Los_Angeles")
_PUBLISHED = time(10)


def check_cron(expression: str) -> None:
    """Make sure that a cron expression says what its author means.

    Raises:
        ValueError: It is malformed, never comes, or is one that cron reads in a way that nobody expects.
    """
    fields = expression.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"{len(fields)} fields; write five: {', '.join(_FIELDS)}")
    for name, field in zip(_FIELDS, fields, strict=True):
        if not (_WEEKDAY if name == _FIELDS[-1] else _FIELD).fullmatch(field):
            raise ValueError(
                f"{field!r} is no {name}; write numbers with * , - and /, and for a weekday of the month 3#2, "
                "the second Wednesday"
            )
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError(
            "cron takes a day of the month or a day of the week when both are given; "
            "write the second Wednesday as 3#2 in the last field and * in the third"
        )
    try:
        next(CronSim(expression, _SOME_DAY))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"there is no such time: {error}" if str(error) else "there is no such time") from None


def ticks(expression: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """The times of a cron expression in a time zone, from the first one after a moment on."""
    return iter(CronSim(expression, after.astimezone(ZoneInfo(timezone))))


def longest_gap(expression: str) -> timedelta:
    """The longest time, in whole days, between two days with a tick."""
    days = " ".join(("0", "0", *expression.split()[2:]))
    times = takewhile(lambda tick: tick < _SOME_DAY + _SPAN, CronSim(days, _SOME_DAY))
    return max((later - earlier for earlier, later in pairwise(times)), default=_SPAN)


ReleaseRule = Literal["none", "approval", "automatic"]

_SLACK = timedelta(days=1)
"""By how much longer one build may take than another without an image being called stale."""


def _is_cron(expression: str) -> str:
    check_cron(expression)
    return " ".join(expression.split())


def _is_timezone(name: str) -> str:
    known = available_timezones()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"there is no time zone {name!r}; "
            + (f"did you mean {close[0]!r}?" if close else "write it as Area/City, e.g. America/Los_Angeles, or UTC")
        )
    return name


class ScheduledImages(StrictModel):
    """Which images are built; an image has to fulfil every key that is given. Images FROM them are built as well."""

    os: Literal["linux", "windows"] | None = Field(default=None, description="Operating system of the images.")
    images: tuple[str, ...] = Field(
        default=(),
        description="<family>/<name>, or a pattern with *. An image that is past its end of life has to be named.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> ScheduledImages:
        if self.os is None and not self.images:
            raise ValueError('say which: "os", "images" or both; images: ["*"] takes all')
        return self


class ScheduleFile(StrictModel):
    """The whole of a file of `schedules/`."""

    name: str = Field(
        pattern=form(
            r"^[a-z][a-z0-9_]{0,59}$", "small letters, digits and underscores, at most 60, beginning with a letter"
        ),
        description="Unique. Small letters, digits and underscores; the UI shows it as <name>_schedule.",
    )
    description: str = Field(min_length=1, max_length=500, description="Purpose; shown in the UI.")
    cron: Annotated[str, AfterValidator(_is_cron)] = Field(
        description="Minute, hour, day of the month, month, day of the week. The second Wednesday is 3#2."
    )
    timezone: Annotated[str, AfterValidator(_is_timezone)] = Field(
        description="Time zone of the cron expression, e.g. America/Los_Angeles; daylight saving time is followed."
    )
    selection: ScheduledImages = Field(description="Which images are built.")
    force: bool = Field(default=False, description="Build and test images again that already passed.")
    release: ReleaseRule = Field(
        default="none",
        description="none: the build is not for release. approval: a person releases it by the end of its day. "
        "automatic: it is released as soon as it has succeeded.",
    )
    after_patch_tuesday: bool = Field(
        default=False,
        description="The build has to contain the month's Windows updates: warn when it runs before them.",
    )
    stale_after_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        description="An image whose last complete build is older is shown as unhealthy. More than the longest time "
        "between two builds.",
    )

    @field_validator("stale_after_days")
    @classmethod
    def _does_not_flap(cls, days: float | None, info: ValidationInfo) -> float | None:
        if days is None or "cron" not in info.data:
            return days
        gap = longest_gap(info.data["cron"])
        if timedelta(days=days) < gap + _SLACK:
            raise ValueError(
                f"{gap.days} days can pass between two builds, and images would look unhealthy without a reason; "
                f"write {(gap + _SLACK).days} or more"
            )
        return days


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule.

    Attributes:
        path: Its file, relative to the repository.
        file: What the file says.
    """

    path: str
    file: ScheduleFile

    @property
    def dagster_name(self) -> str:
        """Its name in Dagster, which no sensor may have as well."""
        return f"{self.file.name}_schedule"

    def chooses(self, image: Image, today: date) -> bool:
        """Whether an image is one of those that the file selects."""
        wanted = self.file.selection
        named = image.id in wanted.images
        return (
            (wanted.os is None or image.os == wanted.os)
            and (named or not wanted.images or any(fnmatchcase(image.id, pattern) for pattern in wanted.images))
            and (named or not image.is_past_end_of_life(today))
        )

    def images(self, catalog: Catalog, today: date) -> Reasons:
        """What is built, with the reasons: what the file selects, and what is FROM it."""
        reason = f"schedule {self.file.name}"
        chosen = {image.id: (reason,) for image in catalog.images.values() if self.chooses(image, today)}
        return catalog.with_descendants(chosen, today)[0]

    def release_by(self, tick: datetime) -> datetime:
        """The end of the day of a build, in the time zone of the schedule."""
        return datetime.combine(tick.date() + timedelta(days=1), time(), tick.tzinfo)


@dataclass(frozen=True, slots=True)
class Timetable:
    """All schedules of a repository.

    Attributes:
        schedules: Those whose files are right, by name.
        findings: Everything that is wrong, by file and line.
    """

    schedules: tuple[Schedule, ...]
    findings: tuple[Finding, ...]

    def stale_after(self, image: Image, today: date) -> timedelta | None:
        """After which time without a build an image is stale; None when no schedule says so."""
        days = [
            schedule.file.stale_after_days
            for schedule in self.schedules
            if schedule.file.stale_after_days is not None and schedule.chooses(image, today)
        ]
        return timedelta(days=min(days)) if days else None


def read_timetable(tree: Tree, catalog: Catalog) -> Timetable:
    """Read every schedule of a tree.

    Args:
        tree: The source; it need not have the folder.
        catalog: The images of the tree.
    """
    files = [path for path in tree.files() if path.rpartition("/")[0] == FOLDER]
    findings = [
        Finding("", "warning", f"only files that end in {_ENDING} are read here", path)
        for path in files
        if not path.endswith(_ENDING)
    ]
    by_name: dict[str, Schedule] = {}
    for path, content in tree.read_many(path for path in files if path.endswith(_ENDING)):
        file, faults = read_model_file(ScheduleFile, content, path)
        findings += faults
        if file is None:
            continue
        if file.name in by_name:
            message = f"name: {file.name!r} is also the name of {by_name[file.name].path}"
            findings.append(Finding("", "error", message, path))
            continue
        by_name[file.name] = Schedule(path, file)
        findings += _unknown_images(by_name[file.name], catalog)
    return Timetable(
        tuple(by_name[name] for name in sorted(by_name)),
        tuple(sorted(findings, key=lambda finding: (finding.path, finding.line or 0, finding.message))),
    )


def _unknown_images(schedule: Schedule, catalog: Catalog) -> list[Finding]:
    """A schedule runs with the images that are left: one that stops altogether would be noticed too late."""
    findings = []
    for pattern in schedule.file.selection.images:
        if any(fnmatchcase(image, pattern) for image in catalog.images):
            continue
        close = difflib.get_close_matches(pattern, catalog.images, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        message = f"selection.images: no image is named {pattern!r}{hint}"
        findings.append(Finding("", "error", message, schedule.path, stops_build=False))
    return findings


def patch_tuesday(year: int, month: int) -> date:
    """The second Tuesday of a month."""
    first = date(year, month, 1)
    return first.replace(day=8 + (calendar.TUESDAY - first.weekday()) % 7)


def patches_published(year: int, month: int) -> datetime:
    """When the updates of a month come."""
    return datetime.combine(patch_tuesday(year, month), _PUBLISHED, _PACIFIC)


def patches_to_come(tick: datetime) -> datetime | None:
    """When the updates of the tick's month come, if that is after the tick; else None.

    The second Wednesday is the day after the second Tuesday, but in months that begin on a Wednesday: there it comes
    six days before.

    Args:
        tick: When a build starts, in the time zone by whose calendar it was planned.
    """
    published = patches_published(tick.year, tick.month)
    return published if tick < published else None
