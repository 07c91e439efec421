"""The assets `staged` and `tested` of every image, and the job that builds.

What follows them in the chain, `release_config` and `import_cfg`, is in `defs/release/release_files.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.images.staged import staged_asset
from aml_images_dagster.defs.images.tested import tested_asset
from aml_images_dagster.defs.keys import BUILD_JOB, REQUEST_JOB
from aml_images_dagster.defs.request import QUEUE_TAG, build_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.defs.operations.jobs import AssetJob
    from aml_images_dagster.defs.run import Factory


def build_job(images: Sequence[Image]) -> AssetJob:
    """The job of the runs that build."""
    return dg.define_asset_job(
        BUILD_JOB,
        selection=dg.AssetSelection.assets(*(build_keys(image.id for image in images) if images else ())),
        description=f"The run of a build, which `{REQUEST_JOB}`, schedules and sensors start with a plan. "
        f"Launched from here it builds every image; open `{REQUEST_JOB}` instead.",
        tags={QUEUE_TAG: "builds"},
    )


def definitions(images: Sequence[Image], factory: Factory) -> dg.Definitions:
    """Two steps for each image; release_config and import_cfg come from `release_files` of `defs/release`."""
    assets = [
        *(staged_asset(image, factory.source) for image in images),
        *(tested_asset(image, factory.source) for image in images),
    ]
    return dg.Definitions(assets=assets)
