"""Builds of what pull requests change, and the reports on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.pull_requests.sensor import pull_request_sensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.defs.run import Workshop


def definitions(images: Sequence[Image], workshop: Workshop) -> dg.Definitions:
    """The sensor that turns a new head into a build."""
    return dg.Definitions(sensors=[pull_request_sensor(workshop, images)])
