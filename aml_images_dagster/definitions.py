"""Everything that Dagster loads, in one page."""

from __future__ import annotations

from functools import cache, partial

import dagster as dg

from aml_images_dagster import fork_server
from aml_images_dagster.builds.source import open_source as open_source_tree
from aml_images_dagster.defs import images, open_source, operations, pull_requests, release, schedules, upstream
from aml_images_dagster.defs.keys import BUILD_JOB, images_with_assets
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.pinned_catalogue import PinnedCatalogue, PinnedDefinitions
from aml_images_dagster.defs.release.release_files import release_files
from aml_images_dagster.defs.request import RESOURCE, BuildOptions
from aml_images_dagster.defs.run import Workshop
from aml_images_dagster.profiles import parts_for
from aml_images_dagster.pull_requests.declaration import with_declared
from aml_images_dagster.settings import Settings, load_settings


def definitions(settings: Settings, pinned: PinnedCatalogue | None = None) -> dg.Definitions:
    """The definitions of a repository of image folders.

    Args:
        settings: All settings.
        pinned: Which images; default: those that are there now.

    Raises:
        BadInput: The settings or the repository are wrong.
    """
    pinned = pinned or PinnedCatalogue.now(settings)
    workshop = Workshop(settings, open_source_tree(settings, pinned.commit), parts_for(settings))
    known = with_declared(images_with_assets(workshop.source.catalogue), pinned.declared)
    shared = dg.Definitions(
        resources={RESOURCE: BuildOptions.configure_at_launch()},
        executor=dg.multiprocess_executor.configured(
            {
                "max_concurrent": settings.parallel,
                "start_method": {"forkserver": {"preload_modules": fork_server.PRELOADED}},
            }
        ),
    )
    if pinned.images is not None:  # a run of the command line: what it does not make costs it nothing
        made = [image for image in known if image.id in pinned.images]
        files = dg.Definitions(assets=[release_files(made, workshop)])
        return dg.Definitions.merge(images.definitions(made, workshop), files, shared)
    main = MainBranch(workshop)
    return dg.Definitions.merge(
        images.definitions(known, workshop),
        release.definitions(known, workshop, main),
        upstream.definitions(workshop, main),
        schedules.definitions(workshop, main),
        pull_requests.definitions(known, workshop),
        operations.definitions(workshop),
        open_source.definitions(workshop),
        shared,
    )


@cache
def _pinned() -> PinnedDefinitions:
    settings = load_settings()
    return PinnedDefinitions(settings, partial(definitions, settings))


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads."""
    return _pinned().build_defs()


def build_job() -> dg.JobDefinition:
    """The job that builds; the command line runs it by naming this function."""
    return _pinned().here().resolve_job_def(BUILD_JOB)
