"""Patch Tuesday: when Microsoft publishes the month's Windows updates, and with them new Windows base images.

Updates come on the second Tuesday of the month at 10:00 Pacific time. Source:
https://learn.microsoft.com/en-us/windows/deployment/update/release-cycle.
"""

from __future__ import annotations

import calendar
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

_PACIFIC = ZoneInfo("America/Los_Angeles")
_PUBLISHED = time(10)


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
