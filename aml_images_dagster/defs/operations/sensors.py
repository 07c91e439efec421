"""Sensors that request a cleanup: after failed and canceled runs, and the janitor for all other cases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.janitor import due_builds
from aml_images_dagster.defs.keys import CLEANUP, CLEANUP_JOB
from aml_images_dagster.defs.operations.cleanup import is_build
from aml_images_dagster.defs.operations.jobs import operations_config
from aml_images_dagster.defs.run_state import InstanceRuns
from aml_images_dagster.defs.ticks import skips_while_unreachable

if TYPE_CHECKING:
    from aml_images_dagster.defs.operations.jobs import AssetJob
    from aml_images_dagster.defs.run import Factory


def cleanup_sensors(factory: Factory, job: AssetJob) -> list[dg.SensorDefinition]:
    """One sensor for failed runs, one for canceled ones, and the janitor; each asks for runs of the job."""
    return [
        _status_sensor(dg.DagsterRunStatus.FAILURE, "failed", job),
        _status_sensor(dg.DagsterRunStatus.CANCELED, "canceled", job),
        _janitor(factory, job),
    ]


def _status_sensor(run_status: dg.DagsterRunStatus, status: str, job: AssetJob) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        run_status=run_status,
        name=f"cleanup_{status}_builds",
        description=f"Starts the cleanup of {status} builds in staging and on test machines.",
        request_job=job,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def cleanup_build(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        run_id = context.dagster_run.run_id
        if not is_build(context.instance, run_id):
            return dg.SkipReason("the run was not a build")
        return dg.RunRequest(run_key=f"{status} {run_id}", run_config=operations_config(CLEANUP, runs=[run_id]))

    return cleanup_build


def _janitor(factory: Factory, job: AssetJob) -> dg.SensorDefinition:
    @dg.sensor(
        name="janitor",
        description="Cleans up after killed processes, repeats incomplete cleanups, and expires unreleased builds.",
        job=job,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    @skips_while_unreachable
    def janitor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        runs = InstanceRuns(context.instance, factory.settings.host_patience_seconds)
        if runs.is_under_way(CLEANUP_JOB):
            return dg.SkipReason("a cleanup is starting or running")
        due = due_builds(factory.backends, factory.settings, runs, datetime.now(UTC))
        dead = [run.run_id for run in runs.dead()]
        if not due and not dead:
            return dg.SkipReason("nothing to clean up")
        context.log.info(f"to clean up: {', '.join(due)}; runs of dead processes: {', '.join(dead)}")
        return dg.RunRequest()

    return janitor
