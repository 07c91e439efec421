"""Take back the build of every run that failed or was cancelled, however it was started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.build.cleanup import cleanup
from aml_images_dagster.build.naming import build_number

if TYPE_CHECKING:
    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.build.records import BuildStatus

_STATUSES: dict[dg.DagsterRunStatus, BuildStatus] = {
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


def clean_up_sensors(workshop: Workshop) -> list[dg.SensorDefinition]:
    """One sensor for failed runs and one for cancelled ones; both call the same idempotent clean-up."""
    return [_sensor(workshop, run_status, status) for run_status, status in _STATUSES.items()]


def _sensor(workshop: Workshop, run_status: dg.DagsterRunStatus, status: BuildStatus) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        run_status=run_status,
        name=f"take_back_{status}_builds",
        description=f"Removes what {status} builds left in staging and on test machines.",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def take_back(context: dg.RunStatusSensorContext) -> dg.SkipReason:
        record = context.instance.get_run_record_by_id(context.dagster_run.run_id)
        if record is None:
            return dg.SkipReason("the run is gone")
        build = build_number(context.dagster_run.run_id, record.create_timestamp)
        report = cleanup(build, workshop.parts, status)
        return dg.SkipReason(f"{build}: {len(report.rows)} found, {'nothing left' if report.clean else 'NOT CLEAN'}")

    return take_back
