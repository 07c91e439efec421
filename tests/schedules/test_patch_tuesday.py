"""Patch Tuesday, and the months in which the second Wednesday comes before it."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from aml_images_dagster.schedules.patch_tuesday import patch_tuesday, patches_published, patches_to_come
from tests.schedules.test_cron import ZONES, second_wednesdays

# Of Microsoft's release notes.
KNOWN = [
    date(2024, 1, 9),
    date(2024, 5, 14),
    date(2025, 4, 8),
    date(2025, 10, 14),
    date(2026, 4, 14),
    date(2026, 7, 14),
]


@pytest.mark.parametrize("day", KNOWN)
def test_known_days(day: date) -> None:
    assert patch_tuesday(day.year, day.month) == day


@pytest.mark.parametrize("zone", ZONES)
def test_the_trap_is_in_months_that_begin_on_a_wednesday(zone: str) -> None:
    """Also in Auckland, where Wednesday nine o'clock is Tuesday in Seattle, after ten."""
    days = second_wednesdays(zone, 9)
    trapped = [day for day in days if patches_to_come(day)]
    assert trapped == [day for day in days if day.replace(day=1).weekday() == 2]
    assert [(d.year, d.month) for d in trapped][:6] == [
        (2026, 4),
        (2026, 7),
        (2027, 9),
        (2027, 12),
        (2028, 3),
        (2028, 11),
    ]
    assert all((patch_tuesday(day.year, day.month) - day.date()).days == 6 for day in trapped)


def test_the_hour_counts() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    assert patches_published(2026, 11) == datetime(2026, 11, 10, 18, tzinfo=ZoneInfo("UTC"))
    assert patches_to_come(datetime(2026, 11, 11, 2, tzinfo=tokyo)) == patches_published(2026, 11)
    assert patches_to_come(datetime(2026, 11, 11, 3, tzinfo=tokyo)) is None
