"""Builds of what pull requests change, and the reports on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.keys import ENDED_BUILDS, ENDING_JOB
from aml_images_dagster.defs.operations.jobs import operations_job
from aml_images_dagster.defs.pull_requests.runs import ending_asset
from aml_images_dagster.defs.pull_requests.sensor import pull_request_sensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.defs.operations.jobs import AssetJob
    from aml_images_dagster.defs.run import Factory


def definitions(images: Sequence[Image], factory: Factory, build_job: AssetJob) -> dg.Definitions:
    """The sensor that turns a new head into a build, and the job that ends what is no longer needed."""
    description = "Cancel builds of superseded and closed pull requests, and remove the staged images of closed ones."
    ending_job = operations_job(ENDING_JOB, ENDED_BUILDS, description, factory.settings)
    return dg.Definitions(
        assets=[ending_asset()],
        jobs=[ending_job],
        sensors=[pull_request_sensor(factory, images, [build_job, ending_job])],
    )
