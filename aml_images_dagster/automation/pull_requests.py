"""The sensor of pull requests: a build for every new head, an end to superseded and closed ones, and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.keys import BUILD_JOB
from aml_images_dagster.automation.default_status import sensor_status
from aml_images_dagster.automation.pull_request_tick import Watch
from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.catalog.image import Image


def pull_request_sensor(workshop: Workshop, images: Iterable[Image]) -> dg.SensorDefinition:
    """The sensor.

    Args:
        workshop: Settings and parts.
        images: The images that have assets.
    """
    watch = Watch(workshop, {image.id: image.parents for image in images})

    @dg.sensor(
        name="pull_requests",
        description="Builds what pull requests change, and tells them how it went.",
        job_name=BUILD_JOB,
        minimum_interval_seconds=workshop.settings.pull_requests.interval_seconds,
        default_status=sensor_status(workshop.settings),
    )
    def pull_requests(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            return watch.look(context)
        except FactoryError as fault:
            return dg.SkipReason(str(fault))

    return pull_requests
