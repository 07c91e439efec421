"""Cron expressions, and the second Wednesday against the calendar."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import cron_string_iterator, is_valid_cron_string
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.schedules.schedule_file import check_cron, longest_gap, ticks

SECOND_WEDNESDAY = "0 9 * * 3#2"
MONTHS = 240
ZONES = ("America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland", "UTC")


def second_wednesdays(zone: str, hour: int, minute: int = 0) -> list[datetime]:
    """From the weeks of the calendar, without any cron."""
    found = []
    for number in range(MONTHS):
        year, month = 2026 + number // 12, number % 12 + 1
        weeks = calendar.Calendar(calendar.MONDAY).monthdatescalendar(year, month)
        days = [day for week in weeks for day in week if day.month == month and day.weekday() == calendar.WEDNESDAY]
        found.append(datetime.combine(days[1], time(hour, minute), ZoneInfo(zone)))
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hour", [0, 9, 23])
def test_240_second_wednesdays(zone: str, hour: int) -> None:
    """What Dagster's daemon goes by, what we go by, and the calendar."""
    cron = f"0 {hour} * * 3#2"
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone))
    expected = second_wednesdays(zone, hour)
    of_dagster = list(islice(cron_string_iterator(start.timestamp(), cron, zone), MONTHS))
    assert [tick.timestamp() for tick in of_dagster] == [tick.timestamp() for tick in expected]
    assert [tick.timestamp() for tick in islice(ticks(cron, zone, start), MONTHS)] == [t.timestamp() for t in expected]
    assert {(tick.astimezone(ZoneInfo(zone)).hour, tick.utcoffset()) for tick in of_dagster} == {
        (hour, tick.utcoffset()) for tick in expected
    }


def test_second_wednesdays_are_four_or_five_weeks_apart() -> None:
    days = [tick.date() for tick in second_wednesdays("UTC", 0)]
    assert {later - earlier for earlier, later in pairwise(days)} == {
        timedelta(days=28),
        timedelta(days=35),
    }
    assert longest_gap(SECOND_WEDNESDAY) == timedelta(days=35)


@pytest.mark.parametrize(
    ("expression", "days"), [("*/5 * * * *", 1), ("0 9 * * 1-5", 3), ("0 0 31 * *", 61), ("* * 1 1 *", 366)]
)
def test_longest_gap(expression: str, days: int) -> None:
    assert longest_gap(expression) == timedelta(days=days)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 9 8-14 * 3", "write the second Wednesday as 3#2"),
        ("0 9 * *", "4 fields; write five"),
        ("@monthly", "1 fields"),
        ("0 9 * * WED", "'WED' is no day of the week"),
        ("0 25 * * *", "there is no such time"),
        ("0 0 30 2 *", "there is no such time"),
        ("0 9 * * 3#6", "is no day of the week"),
    ],
)
def test_expressions_that_are_refused(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_cron(expression)


FIELD = st.text("0123456789*,-/#", min_size=1, max_size=5)


@given(st.tuples(*[st.one_of(st.just("*"), st.integers(0, 61).map(str), FIELD)] * 5).map(" ".join))
def test_what_we_take_dagster_takes(expression: str) -> None:
    try:
        check_cron(expression)
    except ValueError:
        return
    assert is_valid_cron_string(expression)
    assert dg.ScheduleDefinition("x_schedule", cron_schedule=expression, job_name="x")
    after = datetime(2026, 11, 23, 12, 30, 30, tzinfo=UTC)  # on a tick, Dagster begins with it
    ours = next(ticks(expression, "UTC", after))
    assert next(cron_string_iterator(after.timestamp(), expression, "UTC")) == ours


def test_a_day_that_has_no_such_hour() -> None:
    assert date(2026, 3, 8).weekday() == calendar.SUNDAY  # the clock goes forward at two
    start = datetime(2026, 3, 7, 12, tzinfo=UTC)
    dagster = next(cron_string_iterator(start.timestamp(), "30 2 8 3 *", "America/Los_Angeles"))
    assert dagster.astimezone(UTC).date() == date(2026, 3, 8)
