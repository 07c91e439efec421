"""Clean up the build of every run that failed or was cancelled, however it was started, and what crashes left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.cleanup import CleanupReport, cleanup
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.defs.keys import is_of_build
from aml_images_dagster.defs.operations.cleanup import announce, sweep_now
from aml_images_dagster.defs.run import planned_keys
from aml_images_dagster.defs.run_state import first_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.records import BuildStatus
    from aml_images_dagster.defs.run import Workshop

_STATUSES: dict[dg.DagsterRunStatus, BuildStatus] = {
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


def cleanup_sensors(workshop: Workshop) -> list[dg.SensorDefinition]:
    """One sensor for failed runs, one for cancelled ones, and the janitor."""
    return [*(_sensor(workshop, run, status) for run, status in _STATUSES.items()), _janitor(workshop)]


def _sensor(workshop: Workshop, run_status: dg.DagsterRunStatus, status: BuildStatus) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        run_status=run_status,
        name=f"cleanup_{status}_builds",
        description=f"Removes what {status} builds left in staging and on test machines.",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def cleanup_build(context: dg.RunStatusSensorContext) -> dg.SkipReason:
        run_id, instance = context.dagster_run.run_id, context.instance
        record = instance.get_run_record_by_id(run_id)
        if record is None or not any(map(is_of_build, planned_keys(instance, run_id))):
            return dg.SkipReason("the run was no build")
        failure = first_failure(instance, run_id) if status == "failed" else None
        report = cleanup(build_number(run_id, record.create_timestamp), workshop.parts, status, failure)
        announce(instance, [report], workshop.parts.artifacts)
        return dg.SkipReason(_summary([report]))

    return cleanup_build


def _janitor(workshop: Workshop) -> dg.SensorDefinition:
    @dg.sensor(
        name="janitor",
        description="Finds what killed processes left, sweeps again, and lets builds that were not released expire.",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def janitor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        reports = sweep_now(workshop, context.instance)
        announce(context.instance, reports, workshop.parts.artifacts)
        return dg.SkipReason(_summary(reports) or "nothing to clean up")

    return janitor


def _summary(reports: Sequence[CleanupReport]) -> str:
    return "; ".join(
        f"{report.build}: {len(report.rows)} found, {'nothing left' if report.clean else 'NOT CLEAN'}"
        for report in reports
    )
