"""The cleanup in the UI: one asset whose table says what was cleaned up last, and whether anything is left."""

from datetime import UTC, datetime

import dagster as dg

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.cleanup import CleanupReport, cleanup, not_clean
from aml_images_dagster.builds.janitor import sweep
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.defs.keys import CLEANUP, NOTHING_LEFT, OPERATIONS_GROUP
from aml_images_dagster.defs.run import Workshop, created_at
from aml_images_dagster.defs.run_state import InstanceRuns, first_failure


def cleanup_asset(workshop: Workshop) -> dg.AssetsDefinition:
    """Materializing it sweeps now; sensors and hooks report their cleanups to it as they happen."""

    @dg.asset(
        key=CLEANUP,
        group_name=OPERATIONS_GROUP,
        description="What failed, cancelled and expired builds left, and what became of it. Materialize to sweep now.",
        kinds={"docker"},
        check_specs=[dg.AssetCheckSpec(NOTHING_LEFT, asset=CLEANUP, description="Nothing of a failed build is left.")],
    )
    def cleanup(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        reports = sweep_now(workshop, context.instance)
        left = _left(reports, workshop.parts.artifacts)
        return dg.MaterializeResult(
            metadata=_metadata(reports),
            check_results=[
                dg.AssetCheckResult(passed=not left, check_name=NOTHING_LEFT, metadata={"left": ", ".join(left)})
            ],
        )

    return cleanup


def sweep_now(workshop: Workshop, instance: dg.DagsterInstance) -> list[CleanupReport]:
    """Run the janitor once."""
    return sweep(workshop.parts, workshop.settings, InstanceRuns(instance), datetime.now(UTC))


def announce(instance: dg.DagsterInstance, reports: list[CleanupReport], artifacts: Artifacts) -> None:
    """Show what is new of cleanups in the UI; the asset is unhealthy as long as any build is not clean."""
    reports = [report for report in reports if report.is_news]
    if not reports:
        return
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


def cleanup_hook(workshop: Workshop) -> dg.HookDefinition:
    """A hook for assets, so that it also runs for a Materialize click and for runs of sensors and schedules."""

    @dg.failure_hook(name="cleanup_build")
    def cleanup_build(context: dg.HookContext) -> None:
        build = build_number(context.run_id, created_at(context.instance, context.run_id))
        failure = first_failure(context.instance, context.run_id)
        report = cleanup(build, workshop.parts, "failed", failure)
        for row in report.rows:
            tell = context.log.info if row.outcome == "removed" else context.log.warning
            tell(f"{row.kind} {row.name}: {row.outcome}{row.detail and f' ({row.detail})'}")
        announce(context.instance, [report], workshop.parts.artifacts)

    return cleanup_build
