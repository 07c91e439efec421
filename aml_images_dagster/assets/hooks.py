"""What happens when a step of a build fails: the whole build is cleaned up."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.cleanup import announce
from aml_images_dagster.assets.failure import first_failure
from aml_images_dagster.assets.run import created_at
from aml_images_dagster.builds.cleanup import cleanup
from aml_images_dagster.builds.naming import build_number

if TYPE_CHECKING:
    from aml_images_dagster.assets.run import Workshop


@cache
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
