"""Asset events of images that a build does not build: those that it reuses unchanged, and those that it leaves out."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.steps.unchanged import record_unchanged
from aml_images_dagster.defs.images.checks import (
    SIZE,
    check_result,
    evaluation,
    gate_results,
    has_gate,
    staged_checks,
    without_result,
)
from aml_images_dagster.defs.images.description import staged_metadata, tested_metadata
from aml_images_dagster.defs.keys import asset_key, image_of
from aml_images_dagster.defs.run import step_log
from aml_images_dagster.errors import BuildFailed


def report_unchanged(context: dg.AssetExecutionContext, session: BuildSession) -> None:
    """Record images that the plan reuses. One that had to be built after all is shown as if a step had built it."""
    for made in record_unchanged(session, step_log):
        image, version = made.staged.image, {"dagster/data_version": made.staged.digest}
        events = [("tested", tested_metadata(session, made.tested))]
        if made.staged.reused(session.number):
            context.log.warning(
                f"what was known of {image} was removed after the build was planned: it was tested again"
            )
        else:
            context.log.warning(f"{image} or its base was deleted after the build was planned: it was built again")
            events = [("staged", staged_metadata(session, made.staged)), *events]
        for stage, metadata in events:
            context.log_event(dg.AssetMaterialization(asset_key(image, stage), metadata=metadata, tags=version))  # type: ignore[arg-type]
        for result in staged_checks(session, made.staged):
            context.log_event(evaluation(asset_key(image, "staged"), result))
    for image, result in _budgets(session):
        context.log_event(evaluation(asset_key(image, "staged"), result))


def gate_reused(session: BuildSession) -> Iterator[dg.AssetCheckEvaluation]:
    """Ask the gates about images that the plan reuses: fixes that they lack may have come out since they were built.

    Also about those of which a scenario runs again: only the step that builds an image asks the gates itself.

    A step that fails loses the events that it has only logged, so these are yielded.

    Raises:
        BuildFailed: A gate does not allow one; all were asked about before.
    """
    closed: list[BuildFailed] = []
    for planned in session.plan.images if session.plan else ():
        if planned.action == "reuse" and has_gate(session, planned.image):
            staged = session.folder.read_staged(planned.image)
            for check, failure in gate_results(session, staged, step_log) if staged else ():
                yield evaluation(asset_key(planned.image, "staged"), check)
                closed += [failure] if failure else []
    if closed:
        others = ", ".join(error.where for error in closed[1:])
        first = closed[0]
        raise BuildFailed(f"{first.what}{f' Nor {others}.' if others else ''}", where=first.where, hint=first.hint)


def _budgets(session: BuildSession) -> Iterator[tuple[str, dg.AssetCheckResult]]:
    """The one check whose result can change for a reused image: image.json sets the budget of its size."""
    for planned in session.plan.images if session.plan else ():
        if planned.action == "reuse" and session.image(planned.image).settings.size_budget_mb is not None:
            staged = session.folder.read_staged(planned.image)
            if staged is not None:
                yield planned.image, check_result(SIZE, session, staged)


def left_out(
    context: dg.AssetExecutionContext, session: BuildSession, key: dg.AssetKey
) -> Iterator[dg.MaterializeResult[None] | dg.Output[None]]:
    """The results of an asset that is not made: steps that follow it run, and its page stays as it is.

    A step without a result would be skipped, and with it the release files of all other images.
    """
    image, stage = image_of(key) or ("", "")
    if stage == "staged":
        context.log.warning(session.left_out[image])
    # Dagster makes no event of a result that is marked so.
    yield dg.MaterializeResult(asset_key=key, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})
    if stage in ("staged", "tested"):  # a step of its own
        yield from without_result(context)
