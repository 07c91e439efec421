"""Cleanup of failed, canceled and expired builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.keys import CLEANUP, CLEANUP_JOB
from aml_images_dagster.defs.operations.cleanup import cleanup_asset
from aml_images_dagster.defs.operations.jobs import operations_job
from aml_images_dagster.defs.operations.sensors import cleanup_sensors

if TYPE_CHECKING:
    from aml_images_dagster.defs.run import Factory


def definitions(factory: Factory) -> dg.Definitions:
    """The cleanup as an asset, the job that does it, and the sensors that ask for it."""
    job = operations_job(CLEANUP_JOB, CLEANUP, "Clean up failed, canceled and expired builds.")
    return dg.Definitions(assets=[cleanup_asset()], jobs=[job], sensors=cleanup_sensors(factory, job))
