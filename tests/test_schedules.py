"""The files of `schedules/`: what they choose, what is wrong with them, cron expressions, and Patch Tuesday."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import yaml
from dagster._utils.schedules import cron_string_iterator, is_valid_cron_string
from hypothesis import example, given
from hypothesis import strategies as st

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.catalog.validated_file import read_model_file
from aml_images_dagster.schedules import (
    ScheduleFile,
    check_cron,
    longest_gap,
    patch_tuesday,
    patches_published,
    patches_to_come,
    read_timetable,
    ticks,
)

if TYPE_CHECKING:
    from aml_images_dagster.catalog.finding import Finding
    from aml_images_dagster.schedules import Schedule

ROOT = Path(__file__).parents[1]
TODAY = date(2026, 11, 23)
PATCH_DAY = """\
name: patch_day
description: Windows images
cron: 0 9 * * 3#2
timezone: America/Los_Angeles
selection:
  os: windows
"""
DOCKERFILES = {
    "base/win": "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n",
    "base/debian": "FROM debian:12\n",
    "apps/tool": "FROM registry.example/debian\n",
    "apps/old": "FROM debian:12\n",
}
SECOND_WEDNESDAY = "0 9 * * 3#2"
MONTHS = 240
ZONES = ("America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland", "UTC")
# Of Microsoft's release notes.
KNOWN = [
    date(2024, 1, 9),
    date(2024, 5, 14),
    date(2025, 4, 8),
    date(2025, 10, 14),
    date(2026, 4, 14),
    date(2026, 7, 14),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for image, dockerfile in DOCKERFILES.items():
        folder = tmp_path / "images" / image
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile)
    (tmp_path / "images/apps/old/image.json").write_text('{"eol": "2026-01-01"}')
    (tmp_path / "schedules").mkdir()
    return tmp_path


def read(root: Path, **files: str) -> tuple[list[Schedule], list[Finding]]:
    for name, text in files.items():
        (root / "schedules" / f"{name}.yaml").write_text(text)
    tree = WorkingTree(root)
    catalog = Catalog.load(tree, "images", ["registry.example/{name}"])
    timetable = read_timetable(tree, catalog)
    return list(timetable.schedules), list(timetable.findings)


def chosen(root: Path, selection: object) -> list[str]:
    file = {**yaml.safe_load(PATCH_DAY), "selection": selection}
    (schedule,), _ = read(root, one=yaml.safe_dump(file))
    catalog = Catalog.load(WorkingTree(root), "images", ["registry.example/{name}"])
    return list(schedule.images(catalog, TODAY))


def faults(text: str) -> list[str]:
    file, findings = read_model_file(ScheduleFile, text.encode(), "schedules/x.yaml")
    assert (file is None) == bool(findings)
    return [str(finding) for finding in findings]


def test_the_schedules_of_this_repository() -> None:
    tree = WorkingTree(ROOT)
    catalog = Catalog.load(tree, "base_images/docker/public", ["mcr.microsoft.com/azureml/{name}"])
    timetable = read_timetable(tree, catalog)
    assert timetable.findings == ()
    (patch_day,) = [each for each in timetable.schedules if each.file.name == "windows_patch_day"]
    assert list(patch_day.images(catalog, TODAY)) == [
        "base-windows/servercore-ltsc2019",
        "base-windows/servercore-ltsc2022",
    ]
    assert patch_day.file.force
    assert patch_day.file.after_patch_tuesday


@pytest.mark.parametrize(
    ("selection", "images"),
    [
        ({"os": "windows"}, ["base/win"]),
        ({"os": "linux"}, ["apps/tool", "base/debian"]),
        ({"images": ["base/debian"]}, ["apps/tool", "base/debian"]),
        ({"images": ["base/*"], "os": "windows"}, ["base/win"]),
        ({"images": ["*"]}, ["apps/tool", "base/debian", "base/win"]),
        ({"images": ["apps/old"]}, ["apps/old"]),
    ],
)
def test_what_is_chosen(root: Path, selection: object, images: list[str]) -> None:
    assert chosen(root, selection) == images


def test_reasons(root: Path) -> None:
    (schedule,), _ = read(root, one=PATCH_DAY.replace("os: windows", "images: [base/debian]"))
    catalog = Catalog.load(WorkingTree(root), "images", ["registry.example/{name}"])
    assert schedule.images(catalog, TODAY) == {
        "base/debian": ("schedule patch_day",),
        "apps/tool": ("FROM base/debian",),
    }


def test_a_bad_file_takes_no_other_down(root: Path) -> None:
    schedules, findings = read(root, good=PATCH_DAY, bad=PATCH_DAY.replace("cron:", "corn:"))
    assert [schedule.file.name for schedule in schedules] == ["patch_day"]
    assert list(map(str, findings)) == ['schedules/bad.yaml:3: error: unknown key "corn"; did you mean "cron"?']


def test_two_files_with_one_name(root: Path) -> None:
    schedules, findings = read(root, a=PATCH_DAY, b=PATCH_DAY)
    assert [schedule.path for schedule in schedules] == ["schedules/a.yaml"]
    assert [str(f) for f in findings] == [
        "schedules/b.yaml: error: name: 'patch_day' is also the name of schedules/a.yaml"
    ]


def test_an_image_that_is_not_there_stops_no_other(root: Path) -> None:
    schedules, findings = read(root, a=PATCH_DAY.replace("os: windows", "images: [base/win, base/debain]"))
    assert [str(finding) for finding in findings] == [
        "schedules/a.yaml: error: selection.images: no image is named 'base/debain'; did you mean 'base/debian'?"
    ]
    assert len(schedules) == 1


def test_other_files_are_remarked_upon(root: Path) -> None:
    (root / "schedules" / "x.yml").write_text(PATCH_DAY)
    assert [f.message for f in read(root)[1]] == ["only files that end in .yaml are read here"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PATCH_DAY + "release: later\n", "schedules/x.yaml:7: error: release: must be"),
        (
            PATCH_DAY + "release: approval\nrelease: none\n",
            "schedules/x.yaml:8: error: release: the key is there twice",
        ),
        (PATCH_DAY + "force: yes\n", 'schedules/x.yaml:7: error: force: must be true or false, not "yes"'),
        (
            PATCH_DAY.replace("Los_Angeles", "Los_Angles"),
            "x.yaml:4: error: timezone: there is no time zone 'America/",
        ),
        (PATCH_DAY.replace("3#2", "WED"), "x.yaml:3: error: cron: 'WED' is no day of the week"),
        (PATCH_DAY.replace("* * 3#2", "8-14 * 3"), "x.yaml:3: error: cron: cron takes a day of the month or"),
        (PATCH_DAY.replace("  os: windows", "  os: win"), 'x.yaml:6: error: selection.os: must be "linux" or'),
        (PATCH_DAY.replace("  os: windows", "  {}"), 'x.yaml:5: error: selection: say which: "os", "images"'),
        (PATCH_DAY.replace("  os: windows", "  oss: windows"), 'x.yaml:6: error: unknown key "selection.oss"'),
        (PATCH_DAY + "stale_after_days: 35\n", "x.yaml:7: error: stale_after_days: 35 days can pass between"),
        (
            PATCH_DAY.replace("name: patch_day", "name: Patch-Day"),
            "x.yaml:1: error: name: must be small letters, digits",
        ),
        (PATCH_DAY.replace("name: patch_day\n", ""), 'x.yaml:1: error: "name" is missing'),
        ("name: [\n", "x.yaml:2: error: not valid YAML"),
        ("a: &a 1\nb: *a\n", "x.yaml:2: error: not valid YAML: an alias"),
        ("", "x.yaml: error: must be a map"),
        ("- 1\n", "x.yaml:1: error: must be a map"),
        ("a: !!python/object/apply:os.system [echo]\n", "x.yaml:1: error: not valid YAML"),
        ("? [a]\n: 1\n", "x.yaml:1: error: not valid YAML"),
        ("a: !!timestamp 2026-01-01\n", "x.yaml: error: only text, numbers"),
        ("a: !!float .nan\n", "x.yaml: error: only text, numbers"),
        ("[" * 5000, "x.yaml: error: nested too deeply"),
        (
            PATCH_DAY + f"stale_after_days: {'9' * 5000}\n",
            "x.yaml:7: error: stale_after_days: a number of 5,000 digits",
        ),
        (
            PATCH_DAY + "stale_after_days: 1000000000\n",
            "x.yaml:7: error: stale_after_days: ",
        ),
        (
            PATCH_DAY + "stale_after_days: 1.0e999\n",
            "x.yaml:7: error: stale_after_days: 1.0e999 is not a finite number",
        ),
        (PATCH_DAY.replace("Windows images", '"\\ud800"'), "x.yaml: error: a text has half of a surrogate pair"),
        ("a: 1\n---\nb: 1\n", "x.yaml:2: error: not valid YAML"),
    ],
)
def test_what_is_wrong(text: str, said: str) -> None:
    assert any(said in fault for fault in faults(text)), faults(text)


def test_a_file_of_another_encoding() -> None:
    _, findings = read_model_file(ScheduleFile, b"name: x\ndescription: \xff\n", "x.yaml")
    assert [str(finding) for finding in findings] == ["x.yaml:2: error: not UTF-8 text"]


@pytest.mark.parametrize("word", ["on", "yes", "10:30", "1_000", "0x10", "2026-01-01", "09", "=", "<<"])
def test_words_that_older_yaml_takes_for_something_else(word: str) -> None:
    file, findings = read_model_file(ScheduleFile, PATCH_DAY.replace("Windows images", word).encode(), "x.yaml")
    assert findings == ()
    assert file is not None
    assert file.description == word


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@example("?")  # a key that is null
def test_any_text_is_read_or_explained(text: str) -> None:
    file, findings = read_model_file(ScheduleFile, text.encode("utf-8", "surrogatepass"), "x.yaml")
    assert file is None
    assert findings


def test_a_day_ends_in_the_time_zone_of_the_schedule(root: Path) -> None:
    (schedule,), _ = read(root, one=PATCH_DAY)
    tick = datetime(2026, 3, 11, 9, tzinfo=ZoneInfo("America/Los_Angeles"))
    assert schedule.release_by(tick).astimezone(UTC) == datetime(2026, 3, 12, 7, tzinfo=UTC)


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
