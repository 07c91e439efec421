"""docs/automation.md lists the months in which the second Wednesday comes before Patch Tuesday, and every key."""

from __future__ import annotations

import re
from pathlib import Path

from aml_images_dagster.schedules import ScheduleFile, patches_to_come
from tests.test_schedules import second_wednesdays

PAGE = (Path(__file__).parents[2] / "docs" / "automation.md").read_text("utf-8")


def test_the_months() -> None:
    listed = re.findall(r"\d{4}-\d{2}", PAGE.partition("trapped months: begin")[2].partition("trapped months: end")[0])
    days = second_wednesdays("America/Los_Angeles", 9)
    assert listed == [f"{day:%Y-%m}" for day in days if patches_to_come(day)]


def test_every_key_of_a_schedule_has_its_row() -> None:
    section = PAGE.partition("## Schedules\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(ScheduleFile.model_fields)
