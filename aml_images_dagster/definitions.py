"""Everything that Dagster loads, in one page."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster import fork_server
from aml_images_dagster.assets.bases import base_assets
from aml_images_dagster.assets.chain import image_assets, images_with_assets
from aml_images_dagster.assets.cleanup import cleanup_asset
from aml_images_dagster.assets.keys import BUILD_JOB, RELEASE_JOB, released_key
from aml_images_dagster.assets.options import RESOURCE, BuildOptions
from aml_images_dagster.assets.production_jobs import production_jobs
from aml_images_dagster.assets.public_source import publication_assets
from aml_images_dagster.assets.release_day import release_day_assets, release_day_checks
from aml_images_dagster.assets.request import build_keys
from aml_images_dagster.assets.run import Workshop
from aml_images_dagster.automation.after_release import after_release_sensor
from aml_images_dagster.automation.automatic_release import automatic_release_sensor
from aml_images_dagster.automation.cleanup import cleanup_sensors
from aml_images_dagster.automation.main_branch import MainBranch
from aml_images_dagster.automation.pinned_catalogue import PinnedCatalogue, PinnedDefinitions
from aml_images_dagster.automation.production_records import production_records_sensor
from aml_images_dagster.automation.publish_after_release import publish_after_release_sensor
from aml_images_dagster.automation.pull_requests import pull_request_sensor
from aml_images_dagster.automation.release_day import release_day_sensor
from aml_images_dagster.automation.schedules import schedule_definitions, schedule_files_sensor
from aml_images_dagster.automation.upstream import upstream_sensor
from aml_images_dagster.builds.source import open_source
from aml_images_dagster.instance.fork_executor import fork_executor
from aml_images_dagster.profiles import parts_for
from aml_images_dagster.pull_requests.declaration import with_declared
from aml_images_dagster.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator


def definitions(settings: Settings, pinned: PinnedCatalogue | None = None) -> dg.Definitions:
    """The definitions of a repository of image folders.

    Args:
        settings: All settings.
        pinned: Which images; default: those that are there now.

    Raises:
        BadInput: The settings or the repository are wrong.
    """
    pinned = pinned or PinnedCatalogue.now(settings)
    workshop = Workshop(settings, open_source(settings, pinned.commit), parts_for(settings))
    images = with_declared(images_with_assets(workshop.source.catalogue), pinned.declared)
    names = [image.id for image in images]
    main = MainBranch(workshop)
    return dg.Definitions(
        assets=[
            *base_assets(workshop),
            *image_assets(images, workshop),
            *release_day_assets(workshop),
            cleanup_asset(workshop),
            *publication_assets(workshop),
        ],
        asset_checks=release_day_checks(workshop),
        jobs=[
            dg.define_asset_job(
                BUILD_JOB,
                selection=dg.AssetSelection.assets(*(build_keys(names) if names else ())),
                description="Build, test and describe the selected images, all or nothing.",
            ),
            dg.define_asset_job(
                RELEASE_JOB,
                selection=dg.AssetSelection.assets(*map(released_key, names)),
                description="Release a build: import its images into production, and move :latest last of all.",
                # In the process of the run: who ends the run ends the release.
                executor_def=dg.in_process_executor,
            ),
            *production_jobs(workshop),
        ],
        schedules=schedule_definitions(workshop, main),
        sensors=[
            *cleanup_sensors(workshop),
            upstream_sensor(workshop, main),
            release_day_sensor(workshop),
            schedule_files_sensor(workshop),
            automatic_release_sensor(workshop),
            after_release_sensor(workshop, main),
            production_records_sensor(workshop),
            pull_request_sensor(workshop, images),
            *publish_after_release_sensor(workshop),
        ],
        resources={RESOURCE: BuildOptions.configure_at_launch()},
        executor=_executor(workshop),
    )


def _executor(workshop: Workshop) -> dg.ExecutorDefinition:
    settings = workshop.settings
    if settings.executor == "fork":
        return fork_executor(settings.parallel, preload=fork_server.PRELOADED, prepare=workshop.prepare)
    return dg.multiprocess_executor.configured(
        {
            "max_concurrent": settings.parallel,
            "start_method": {"forkserver": {"preload_modules": fork_server.PRELOADED}},
        }
    )


@cache
def _pinned() -> PinnedDefinitions:
    settings = load_settings()
    return PinnedDefinitions(settings, partial(definitions, settings))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Definitions are very many objects, and they stay: to look for garbage among them takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@dg.definitions
@_without_garbage_collection()
def defs() -> dg.Definitions:
    """What Dagster loads."""
    return _pinned().build_defs()


@_without_garbage_collection()
def build_job() -> dg.JobDefinition:
    """The job that builds; the command line runs it by naming this function."""
    return _pinned().here().resolve_job_def(BUILD_JOB)
