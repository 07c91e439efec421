"""What keeps the factory clean: nothing of a failed, canceled or expired build stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.operations.cleanup import cleanup_asset
from aml_images_dagster.defs.operations.sensors import cleanup_sensors

if TYPE_CHECKING:
    from aml_images_dagster.defs.run import Workshop


def definitions(workshop: Workshop) -> dg.Definitions:
    """The cleanup as an asset, and the sensors that see to it."""
    return dg.Definitions(assets=[cleanup_asset(workshop)], sensors=cleanup_sensors(workshop))
