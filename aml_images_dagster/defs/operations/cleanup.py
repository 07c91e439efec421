"""The asset `operations/cleanup`, and the sensors that request it: after failed and canceled runs, and the janitor.

Its table shows what was cleaned up last, and its check whether anything is left.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from logging import Logger

import dagster as dg
from pydantic import Field

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.housekeeping.cleanup import CleanupReport, CleanupRow, cleanup, not_clean
from aml_images_dagster.builds.housekeeping.janitor import due_builds, sweep
from aml_images_dagster.builds.naming import build_number, split_staging_tag
from aml_images_dagster.builds.records import EndStatus
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.defs.keys import CLEANUP, CLEANUP_JOB, NOTHING_LEFT, OPERATIONS_GROUP, asset_key, is_of_build
from aml_images_dagster.defs.operations.jobs import AssetJob, operations_config
from aml_images_dagster.defs.pools import OPERATIONS_POOL
from aml_images_dagster.defs.run import FACTORY, Factory, created_at, explained, planned_keys, with_stacks
from aml_images_dagster.defs.run_state import InstanceRuns, first_failure
from aml_images_dagster.defs.ticks import skips_while_unreachable

_STATUSES: dict[dg.DagsterRunStatus, EndStatus] = {
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


class CleanupOptions(dg.Config):
    """The launchpad block of a cleanup."""

    runs: list[str] = Field(
        default=[], description="Ids of runs whose builds are cleaned up. Default: every build that is due."
    )


def cleanup_asset() -> dg.AssetsDefinition:
    """Materializing it cleans up; the hook and the command line report their cleanups to it as they happen."""

    @dg.asset(
        key=CLEANUP,
        group_name=OPERATIONS_GROUP,
        description="Leftovers of failed, canceled and expired builds, and their removal. Materialize to clean up now.",
        kinds={"docker"},
        pool=OPERATIONS_POOL,
        check_specs=[
            dg.AssetCheckSpec(NOTHING_LEFT, asset=CLEANUP, description="No leftovers of failed builds remain.")
        ],
    )
    def cleanup(
        context: dg.AssetExecutionContext, config: CleanupOptions, factory: dg.ResourceParam[Factory]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        instance, artifacts = context.instance, factory.backends.artifacts
        with explained():
            if config.runs:
                ended = {run_id: _ended(run_id, instance) for run_id in config.runs}
                reports = [clean_up(run_id, status, factory, instance) for run_id, status in ended.items() if status]
            else:
                reports = sweep_now(factory, instance)
        for report in reports:
            log_report(report, context.log)
        observe_removed(instance, reports)
        left = _left(reports, artifacts)
        return dg.MaterializeResult(
            metadata=_metadata(reports),
            check_results=[
                dg.AssetCheckResult(passed=not left, check_name=NOTHING_LEFT, metadata={"left": ", ".join(left)})
            ],
        )

    return cleanup


def is_build(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run was a build, also one with nothing to do but to record what it reuses."""
    return any(map(is_of_build, planned_keys(instance, run_id)))


def _ended(run_id: str, instance: dg.DagsterInstance) -> EndStatus | None:
    """How a build ended that is to be cleaned up; None for any other run."""
    run = instance.get_run_by_id(run_id)
    return _STATUSES.get(run.status) if run is not None and is_build(instance, run_id) else None


def clean_up(run_id: str, status: EndStatus, factory: Factory, instance: dg.DagsterInstance) -> CleanupReport:
    """Clean up the build of a run.

    Raises:
        BuildFailed: The instance has no such run.
    """
    build = build_number(run_id, created_at(instance, run_id))
    return cleanup(build, factory.backends, status, first_failure(instance, run_id) if status == "failed" else None)


def sweep_now(factory: Factory, instance: dg.DagsterInstance) -> list[CleanupReport]:
    """Clean up every build that is due."""
    runs = InstanceRuns(instance, factory.settings.host_patience_seconds)
    runs.end_dead()
    return sweep(factory.backends, factory.settings, runs, datetime.now(UTC))


def announce(instance: dg.DagsterInstance, reports: list[CleanupReport], artifacts: Artifacts) -> None:
    """Show new results of cleanups in the UI; the asset is unhealthy as long as any build is not clean."""
    reports = [report for report in reports if report.is_news]
    if not reports:
        return
    observe_removed(instance, reports)
    left = _left(reports, artifacts)
    instance.report_runless_asset_event(dg.AssetMaterialization(CLEANUP, metadata=_metadata(reports)))
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=CLEANUP,
            check_name=NOTHING_LEFT,
            passed=not left,
            metadata=_metadata(reports) | {"left": dg.MetadataValue.text(", ".join(left))},
        )
    )


def observe_removed(instance: dg.DagsterInstance, reports: Iterable[CleanupReport]) -> None:
    """Say on the page of a staged image that it was cleaned up, if the page shows the build that it is of.

    Its materialization stays, with links that lead nowhere any more.
    """
    for report in reports:
        for row in report.rows:
            image = _staged_image(row)
            if image and _shown_build(instance, image) == report.build:
                said = f"build {report.build} was cleaned up: the image is no longer in staging"
                shown = {"outcome": "cleaned up", "build": report.build, "removed": row.name}
                instance.report_runless_asset_event(
                    dg.AssetObservation(asset_key(image, "staged"), description=said, metadata=shown)
                )


def _staged_image(row: CleanupRow) -> str:
    """The image whose tag was removed; empty for anything else."""
    if row.kind != "staged image" or row.outcome not in ("removed", "digest kept, tag removed"):
        return ""
    reference = Reference.parse(row.name)
    split = split_staging_tag(reference.tag) if reference.tag else None
    return f"{reference.repository}/{split[0]}" if split else ""


def _shown_build(instance: dg.DagsterInstance, image: str) -> str:
    """The build that staged an image last, as its page says."""
    event = instance.get_latest_materialization_event(asset_key(image, "staged"))
    shown = event.asset_materialization.metadata.get("build") if event and event.asset_materialization else None
    return str(shown.value) if shown else ""


def _left(reports: list[CleanupReport], artifacts: Artifacts) -> list[str]:
    return sorted({*(report.build for report in reports if not report.clean), *not_clean(artifacts)})


def _metadata(reports: list[CleanupReport]) -> dict[str, dg.MetadataValue]:
    names = ("build", "what", "name", "outcome", "detail")
    rows = [
        dg.TableRecord(dict(zip(names, (report.build, row.kind, row.name, row.outcome, row.detail), strict=True)))
        for report in reports
        for row in report.rows
    ]
    schema = dg.TableSchema([dg.TableColumn(name, "string") for name in names])
    return {
        "builds": dg.MetadataValue.int(len(reports)),
        "not_clean": dg.MetadataValue.int(sum(not report.clean for report in reports)),
        "found": dg.MetadataValue.table(rows, schema=schema),
    }


@dg.failure_hook(name="cleanup_build", required_resource_keys={FACTORY})
def cleanup_hook(context: dg.HookContext) -> None:
    """A hook on assets, so that it also runs for Materialize and for runs of sensors and schedules."""
    with_stacks()
    factory: Factory = getattr(context.resources, FACTORY)
    report = clean_up(context.run_id, "failed", factory, context.instance)
    log_report(report, context.log)
    announce(context.instance, [report], factory.backends.artifacts)


def log_report(report: CleanupReport, log: Logger) -> None:
    """Say in the log of a run what a cleanup found and did."""
    for row in report.rows:
        say = log.info if row.outcome == "removed" else log.warning
        say(f"{report.build}: {row.kind} {row.name}: {row.outcome}{row.detail and f' ({row.detail})'}")


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
