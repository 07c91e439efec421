"""Cron expressions: those that Dagster and cronsim read alike, and the times that they stand for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

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
