"""The public part of image folders, proposed to the public repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.open_source.public_source import publication_assets, publish_after_release_sensor

if TYPE_CHECKING:
    from aml_images_dagster.defs.run import Factory


def definitions(factory: Factory) -> dg.Definitions:
    """An asset for each public repository that is configured, and the sensor that publishes after a release."""
    return dg.Definitions(
        assets=publication_assets(factory.settings.open_source), sensors=publish_after_release_sensor(factory)
    )
