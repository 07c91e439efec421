"""Cleanup of failed, canceled and expired builds; the fleet at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.keys import CLEANUP, CLEANUP_JOB, FLEET, FLEET_JOB
from aml_images_dagster.defs.operations.cleanup import cleanup_asset, cleanup_sensors
from aml_images_dagster.defs.operations.fleet import fleet_asset, fleet_sensor
from aml_images_dagster.defs.operations.jobs import operations_job

if TYPE_CHECKING:
    from aml_images_dagster.defs.run import Factory


def definitions(factory: Factory) -> dg.Definitions:
    """The cleanup and the fleet as assets, the jobs that make them, and the sensors that ask for these."""
    cleanup_job = operations_job(
        CLEANUP_JOB, CLEANUP, "Clean up failed, canceled and expired builds.", factory.settings
    )
    fleet_job = operations_job(
        FLEET_JOB, FLEET, "Collect what is known of every image in production.", factory.settings
    )
    return dg.Definitions(
        assets=[cleanup_asset(), fleet_asset()],
        jobs=[cleanup_job, fleet_job],
        sensors=[*cleanup_sensors(factory, cleanup_job), fleet_sensor(factory, fleet_job)],
    )
