"""tested: every scenario of the image has passed as a training job, run from the staged digest."""

from collections.abc import Iterator

import dagster as dg

from aml_images_dagster.builds.planning.preflight import begin_checked
from aml_images_dagster.builds.records import StagedImage
from aml_images_dagster.builds.session import BuildSession, Source
from aml_images_dagster.builds.steps.scenarios import test
from aml_images_dagster.builds.steps.staging import reuse_staged, stage_once
from aml_images_dagster.catalog.image import Image
from aml_images_dagster.catalog.image_name import group_name
from aml_images_dagster.defs.images.checks import scenario_checks, scenario_results, without_result
from aml_images_dagster.defs.images.description import (
    code_references,
    evidence_observation,
    kinds,
    owners,
    tested_metadata,
)
from aml_images_dagster.defs.images.failure import StepEvent, failure_events
from aml_images_dagster.defs.images.not_built import left_out, report_unchanged
from aml_images_dagster.defs.keys import STAGE_TAG, asset_key
from aml_images_dagster.defs.operations.cleanup import cleanup_hook
from aml_images_dagster.defs.pools import TEST_POOL
from aml_images_dagster.defs.request import BuildOptions, records_unchanged
from aml_images_dagster.defs.run import Factory, step_log
from aml_images_dagster.errors import FactoryError


def tested_asset(image: Image, source: Source) -> dg.AssetsDefinition:
    """The asset `tested` of an image."""
    key, staged_key = asset_key(image.id, "tested"), asset_key(image.id, "staged")
    scenarios = ", ".join(f"{s.name} ({s.kind})" for s in image.scenarios)
    passed = f"runs its scenarios as jobs: {scenarios}" if scenarios else "has no scenarios: **it is not tested**"

    @dg.asset(
        key=key,
        deps=[staged_key],
        group_name=group_name(image.family),
        description=f"{image.id} {passed}",
        kinds=kinds(image),
        tags={STAGE_TAG: "tested"},
        owners=owners(image),
        metadata=code_references(image, source),
        pool=TEST_POOL,
        check_specs=scenario_checks(image, key),
        hooks={cleanup_hook},
    )
    def tested(
        context: dg.AssetExecutionContext, build_options: BuildOptions, factory: dg.ResourceParam[Factory]
    ) -> Iterator[StepEvent]:
        with factory.step(context, build_options) as session:
            if image.id in session.left_out:
                yield from left_out(context, session, key)
                return
            try:
                if session.plan:
                    begin_checked(session)  # staged may have no step in this run
                    # The test step of one image records all images that a pull request reuses as they are.
                    if session.pull_request and records_unchanged(session.plan, image.id):
                        report_unchanged(context, session)
                staged = session.folder.read_staged(image.id) or _not_staged(context, session, image)
                record = test(session, staged, step_log)
            except FactoryError as error:
                yield from failure_events(context, session, key, error)
                raise
            if not record.scenarios:
                context.log.warning(f"{image.id} has no tests.json: it is not tested")
            if record.untested:
                context.log.warning(f"{image.id} is not tested on {', '.join(record.untested)}: no test machine is")
            for warning in sorted({scenario.warning for scenario in record.scenarios if scenario.warning}):
                context.log.warning(warning)
            for observation in evidence_observation(session, image.id):
                context.log_event(observation)
            results = scenario_results(record, context.selected_asset_check_keys)
            yield dg.MaterializeResult(
                metadata=tested_metadata(session, record),
                data_version=dg.DataVersion(record.digest),
                check_results=results,
            )
            yield from without_result(context, {dg.AssetCheckKey(key, str(result.check_name)) for result in results})

    return tested


def _not_staged(context: dg.AssetExecutionContext, session: BuildSession, image: Image) -> StagedImage:
    """For a run that only tests an image: the image that its plan reuses, else the one that was staged last."""
    if session.planned(image.id):
        return stage_once(session, image.id, step_log)
    event = context.instance.get_latest_materialization_event(asset_key(image.id, "staged"))
    materialization = event.asset_materialization if event else None
    build = materialization.metadata.get("build") if materialization else None
    return reuse_staged(session, image.id, str(build.value) if build else "")
