"""`schedules`: what the next dates are, and what they would start."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository

FILE = """\
name: monthly
description: The month's updates.
cron: "0 9 * * 3#2"
timezone: America/Los_Angeles
selection:
  images: ["tools/*"]
force: true
release: approval
after_patch_tuesday: true
"""


@pytest.fixture
def repository(repository: ImageRepository) -> ImageRepository:
    repository.write(repository.root / "schedules" / "monthly.yaml", FILE)
    return repository


def test_the_second_wednesdays_to_come(repository: ImageRepository) -> None:
    (schedule,) = repository.json("schedules", "--next", "24")["schedules"]
    assert (schedule["name"], schedule["is_on"], schedule["release"]) == ("monthly", False, "approval")
    assert len(schedule["dates"]) == 24
    for date in schedule["dates"]:
        at, patches = (datetime.fromisoformat(date[name]) for name in ("at", "patch_tuesday"))
        assert at > datetime.now(UTC)
        assert (at.weekday(), at.hour) == (calendar.WEDNESDAY, 9)
        assert patches.weekday() == calendar.TUESDAY
        assert date["after_patch_tuesday"] is (at.date() > patches.date())
        assert date["images"] == ["apps/hello", "tools/shell"]
    # In months that begin on a Wednesday the second one comes before the second Tuesday.
    assert {date["after_patch_tuesday"] for date in schedule["dates"]} == {True, False}


def test_for_people(repository: ImageRepository) -> None:
    shown = repository.run("schedules", "--next", "24").stdout
    assert "monthly is off" in shown
    assert "everything is built and tested again; released when a person approves" in shown
    for words in ("passed by then", "still to come then", "2 images", "tools/shell", "Wed 20"):
        assert words in shown
    repository.write(repository.root / "schedules" / "monthly.yaml", "name: monthly\n")
    shown = repository.run("schedules").stdout
    assert "No schedules" in shown
    assert "is missing" in shown


def test_the_instance_says_whether_it_is_on(repository: ImageRepository) -> None:
    home = repository.root / ".aml-images" / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text("")
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("images"), "repository")
    origin = RemoteInstigatorOrigin(location, "monthly_schedule")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_instigator_state(
            InstigatorState(
                origin, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, ScheduleInstigatorData("0 9 * * 3#2")
            )
        )
    (schedule,) = repository.json("schedules")["schedules"]
    assert schedule["is_on"] is True
