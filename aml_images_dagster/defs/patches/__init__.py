"""The promise: the daily scan of production, the check of each image, and the rebuilds that bring fixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.in_process import in_process_executor
from aml_images_dagster.defs.keys import PATCHED, SCAN_JOB, released_key
from aml_images_dagster.defs.patches.scan import patched_checks
from aml_images_dagster.defs.patches.sensor import patches_sensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.defs.main_branch import MainBranch
    from aml_images_dagster.defs.operations.jobs import AssetJob
    from aml_images_dagster.defs.run import Factory

_LONGEST_SECONDS = 6 * 3600


def definitions(images: Sequence[Image], factory: Factory, main: MainBranch, build_job: AssetJob) -> dg.Definitions:
    """The check `patched` of everything in production, the job that asks, and the sensor that starts it and builds."""
    if not images:
        return dg.Definitions()
    scan_job = dg.define_asset_job(
        SCAN_JOB,
        selection=dg.AssetSelection.checks(*(dg.AssetCheckKey(released_key(image.id), PATCHED) for image in images)),
        description="Asks all sources of vulnerabilities about the images that production serves. Nothing is pulled.",
        executor_def=in_process_executor(factory.settings),
        tags={"dagster/max_runtime": str(_LONGEST_SECONDS)},
    )
    return dg.Definitions(
        asset_checks=[patched_checks(images, main)],
        jobs=[scan_job],
        sensors=[patches_sensor(factory, main, scan_job, build_job)],
    )
