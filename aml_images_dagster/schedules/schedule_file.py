"""A file of `schedules/`: when which images are built, and when that has to be released."""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from aml_images_dagster.catalog.validated_file import StrictModel
from aml_images_dagster.messages import form

if TYPE_CHECKING:
    from collections.abc import Iterator


_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_FIELD = re.compile(r"[0-9*,/-]+")
_WEEKDAY = re.compile(r"[0-9*,/-]+|[0-7]#[1-5]")
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_SPAN = timedelta(days=12 * 366)
"""Long enough for every distance between days of a weekday, a month and a leap year to come up."""


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
