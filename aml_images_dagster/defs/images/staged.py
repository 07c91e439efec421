"""staged: the image is built, or reused, and lies in the staging registry under this build's tag."""

from collections.abc import Iterator

import dagster as dg

from aml_images_dagster.builds.planning.preflight import begin_checked
from aml_images_dagster.builds.records import StagedImage
from aml_images_dagster.builds.session import BuildSession, Source
from aml_images_dagster.builds.steps.scenarios import test
from aml_images_dagster.builds.steps.staging import stage
from aml_images_dagster.builds.versions.production_difference import against_production
from aml_images_dagster.catalog.image import Image
from aml_images_dagster.catalog.image_name import group_name
from aml_images_dagster.defs.images.checks import (
    STAGED_CHECKS,
    evaluation,
    gate_results,
    gate_specs,
    is_fine,
    staged_checks,
    without_result,
)
from aml_images_dagster.defs.images.description import (
    change_observation,
    code_references,
    evidence_observation,
    kinds,
    owners,
    staged_metadata,
    tested_metadata,
)
from aml_images_dagster.defs.images.failure import StepEvent, failure_events
from aml_images_dagster.defs.images.not_built import left_out
from aml_images_dagster.defs.keys import STAGE_TAG, asset_key, base_key
from aml_images_dagster.defs.operations.cleanup import cleanup_hook
from aml_images_dagster.defs.pools import BUILD_POOL, WINDOWS_BUILD_POOL
from aml_images_dagster.defs.request import WARNING_TAG, BuildOptions, is_tested_when_staged
from aml_images_dagster.defs.run import Factory, step_log
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.upstream import external_bases


def staged_asset(image: Image, source: Source) -> dg.AssetsDefinition:
    """The asset `staged` of an image; it follows its bases, and the same asset of every image that it is FROM."""
    key = asset_key(image.id, "staged")

    @dg.asset(
        key=key,
        deps=[
            *(asset_key(parent, "staged") for parent in image.parents),
            *(base_key(base) for base in external_bases([image])),
        ],
        group_name=group_name(image.family),
        description=image.settings.description or f"{image.id} in the staging registry.",
        kinds=kinds(image),
        tags={STAGE_TAG: "staged"},
        owners=owners(image),
        metadata=code_references(image, source),
        pool=WINDOWS_BUILD_POOL if image.os == "windows" else BUILD_POOL,
        check_specs=[*(check.spec(key) for check in STAGED_CHECKS), *gate_specs(image, source.tree, key)],
        hooks={cleanup_hook},
    )
    def staged(
        context: dg.AssetExecutionContext, build_options: BuildOptions, factory: dg.ResourceParam[Factory]
    ) -> Iterator[StepEvent]:
        with factory.step(context, build_options) as session:
            warning = context.run.tags.get(WARNING_TAG)
            if warning:
                context.log.warning(warning)
            if image.id in session.left_out:
                yield from left_out(context, session, key)
                return
            try:
                begin_checked(session)
                record = stage(session, image.id, step_log)
                results = staged_checks(session, record)
                gates = list(gate_results(session, record, step_log))
                failures = [failure for _, failure in gates if failure]
                if failures:
                    yield from (evaluation(key, check) for check, _ in gates)
                    raise failures[0]
                selected = context.selected_asset_check_keys
                results += [each for each, _ in gates if dg.AssetCheckKey(key, str(each.check_name)) in selected]
                if session.pull_request:
                    yield from _compare(context, session, record, key)
                if is_fine(results) and _has_no_test_step(session, image):
                    _record_untested(context, session, record)
            except FactoryError as error:
                yield from failure_events(context, session, key, error)
                raise
            yield dg.MaterializeResult(
                metadata=staged_metadata(session, record),
                data_version=dg.DataVersion(record.digest),
                check_results=results,
            )
            yield from without_result(context, {dg.AssetCheckKey(key, str(result.check_name)) for result in results})

    return staged


def _compare(
    context: dg.AssetExecutionContext, session: BuildSession, record: StagedImage, key: dg.AssetKey
) -> Iterator[dg.AssetObservation]:
    found = against_production(session, record)
    observation = change_observation(key, found)
    if found.may_break:
        context.log.warning(observation.description)
    yield observation


def _has_no_test_step(session: BuildSession, image: Image) -> bool:
    """Whether the run has no step that tests the image. In builds of pull requests one may record reused images."""
    plan = session.plan
    return plan is not None and not session.pull_request and is_tested_when_staged(plan, image.id)


def _record_untested(context: dg.AssetExecutionContext, session: BuildSession, record: StagedImage) -> None:
    tested = test(session, record, step_log)
    context.log.warning(f"{record.image} has no tests.json: it is not tested")
    context.log_event(
        dg.AssetMaterialization(
            asset_key(record.image, "tested"),
            metadata=tested_metadata(session, tested),
            tags={"dagster/data_version": tested.digest},
        )
    )
    for observation in evidence_observation(session, record.image):
        context.log_event(observation)
