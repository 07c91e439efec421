"""External bases in the lineage, and builds of what is FROM them when they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.upstream.bases import base_assets
from aml_images_dagster.defs.upstream.sensor import upstream_sensor

if TYPE_CHECKING:
    from aml_images_dagster.defs.main_branch import MainBranch
    from aml_images_dagster.defs.run import Factory


def definitions(factory: Factory, main: MainBranch) -> dg.Definitions:
    """An observable asset for each base, and the sensor that polls their registries."""
    return dg.Definitions(assets=base_assets(factory.source.catalog), sensors=[upstream_sensor(factory, main)])
