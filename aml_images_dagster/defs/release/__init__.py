"""Release files of a build, and changes of production: release, rollback, withdrawal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.in_process import in_process_executor
from aml_images_dagster.defs.keys import PROMOTED, RELEASE_JOB, released_key
from aml_images_dagster.defs.release.production_jobs import pod_tags, production_jobs
from aml_images_dagster.defs.release.release_files import release_files
from aml_images_dagster.defs.release.released import released_assets
from aml_images_dagster.defs.release.sensors import (
    after_release_sensor,
    automatic_release_sensor,
    production_records_sensor,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.defs.main_branch import MainBranch
    from aml_images_dagster.defs.run import Factory


def definitions(images: Sequence[Image], factory: Factory, main: MainBranch) -> dg.Definitions:
    """The files of a build, the step that releases it, the jobs and sensors of production."""
    release_job = dg.define_asset_job(
        RELEASE_JOB,
        selection=_released(images, factory),
        description="Release a build: import its images into production, and move :latest last of all.",
        executor_def=in_process_executor(factory.settings),
        tags=pod_tags(factory.settings),
    )
    return dg.Definitions(
        assets=[release_files(images, factory.timetable), released_assets(images, factory.settings)] if images else [],
        jobs=[release_job, *production_jobs(factory.settings)],
        sensors=[
            automatic_release_sensor(factory),
            after_release_sensor(factory, main),
            production_records_sensor(factory),
        ],
    )


def _released(images: Sequence[Image], factory: Factory) -> dg.AssetSelection:
    """What production serves, with the check of the step itself; others of these assets are no part of a release."""
    keys = [released_key(image.id) for image in images]
    assets = dg.AssetSelection.assets(*keys).without_checks()
    if not factory.settings.release.public_names or not keys:
        return assets
    return assets | dg.AssetSelection.checks(*(dg.AssetCheckKey(key, PROMOTED) for key in keys))
