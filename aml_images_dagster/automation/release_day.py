"""Tells when a scheduled build was not released on its day, or lacks the month's Windows updates."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.release_day import schedule_checks, schedule_key
from aml_images_dagster.automation.default_status import sensor_status

if TYPE_CHECKING:
    from aml_images_dagster.assets.run import Workshop


def release_day_sensor(workshop: Workshop) -> dg.SensorDefinition:
    """The sensor that executes the checks, and tells when one has changed."""

    @dg.sensor(
        name="release_day",
        description="Looks whether scheduled builds were released on their day; late ones become unhealthy.",
        minimum_interval_seconds=300,
        default_status=sensor_status(workshop.settings),
    )
    def release_day(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before = json.loads(context.cursor or "{}")
        now = datetime.now(UTC)
        verdicts = {
            (schedule, name): look(schedule, context.instance, workshop, now)
            for schedule in workshop.timetable.schedules
            for name, look in schedule_checks(schedule).items()
        }
        told = {f"{schedule.file.name}.{name}": verdict.found for (schedule, name), verdict in verdicts.items()}
        return dg.SensorResult(
            skip_reason="; ".join(f"{name}: {found}" for name, found in told.items()) or "nothing is to be released",
            cursor=json.dumps(told),
            asset_events=[
                dg.AssetCheckEvaluation(
                    asset_key=schedule_key(schedule),
                    check_name=name,
                    passed=verdict.passed,
                    severity=verdict.severity,
                    description=verdict.found,
                    metadata=verdict.metadata,
                )
                for (schedule, name), verdict in verdicts.items()
                if before.get(f"{schedule.file.name}.{name}") != verdict.found
            ],
        )

    return release_day
