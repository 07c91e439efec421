"""Builds at fixed times, and whether they were released on their day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.schedules.release_day import release_day_assets, release_day_checks, release_day_sensor
from aml_images_dagster.defs.schedules.schedules import schedule_definitions, schedule_files_sensor

if TYPE_CHECKING:
    from aml_images_dagster.defs.main_branch import MainBranch
    from aml_images_dagster.defs.run import Factory


def definitions(factory: Factory, main: MainBranch) -> dg.Definitions:
    """A schedule for each file of `schedules/`, and an asset with checks for each that is meant for release."""
    return dg.Definitions(
        assets=release_day_assets(factory.timetable),
        asset_checks=release_day_checks(factory.timetable),
        schedules=schedule_definitions(factory, main),
        sensors=[schedule_files_sensor(factory), release_day_sensor(factory)],
    )
