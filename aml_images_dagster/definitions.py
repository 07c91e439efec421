"""Everything that Dagster loads, in one page."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster import fork_server
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs import (
    images,
    notifications,
    open_source,
    operations,
    patches,
    pull_requests,
    release,
    schedules,
    upstream,
)
from aml_images_dagster.defs.images.request_job import request_job
from aml_images_dagster.defs.keys import BUILD_JOB, images_with_assets
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.pinned_catalog import PinnedCatalog, PinnedDefinitions
from aml_images_dagster.defs.release.release_files import release_files
from aml_images_dagster.defs.request import RESOURCE, BuildOptions
from aml_images_dagster.defs.run import FACTORY, Factory
from aml_images_dagster.defs.run_state import name_process
from aml_images_dagster.instance.fork_executor import fork_executor
from aml_images_dagster.instance.forked_runs import fork_runs
from aml_images_dagster.instance.heartbeat import beat, seconds_between_beats
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.pull_requests.declaration import with_declared
from aml_images_dagster.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator


def definitions(settings: Settings, pinned: PinnedCatalog | None = None) -> dg.Definitions:
    """The definitions of a repository of image folders.

    Args:
        settings: All settings.
        pinned: Which images; default: those that are there now.

    Raises:
        BadInput: The settings or the repository are wrong.
    """
    if settings.executor == "fork":
        fork_runs(fork_server.FOR_RUNS)
    pinned = pinned or PinnedCatalog.now(settings)
    factory = Factory(settings, load_source(settings, pinned.commit), backends_for(settings))
    known = with_declared(images_with_assets(factory.source.catalog), pinned.declared)
    selected = [image for image in known if pinned.images is None or image.id in pinned.images]
    job = images.build_job(selected)
    shared = dg.Definitions(
        jobs=[job],
        # The keys are the names of the parameters by which ops get them: `build_options`, `factory`.
        resources={RESOURCE: BuildOptions.configure_at_launch(), FACTORY: factory},
        executor=_executor(factory),
    )
    if pinned.images is not None:  # for a run of the command line: what it does not make costs it nothing
        files = dg.Definitions(assets=[release_files(selected, factory.timetable)])
        return dg.Definitions.merge(images.definitions(selected, factory), files, shared)
    main = MainBranch(factory)
    return dg.Definitions.merge(
        images.definitions(known, factory),
        release.definitions(known, factory, main),
        upstream.definitions(factory, main),
        patches.definitions(known, factory, main, job),
        schedules.definitions(factory, main),
        pull_requests.definitions(known, factory, job),
        operations.definitions(factory),
        open_source.definitions(factory),
        notifications.definitions(factory),
        dg.Definitions(jobs=[request_job(factory.settings)]),
        shared,
    )


def _executor(factory: Factory) -> dg.ExecutorDefinition:
    settings = factory.settings
    return fork_executor(
        settings.steps_at_once,
        fork_server.FOR_STEPS,
        factory.prepare,
        forks=settings.executor == "fork",
        fail_fast=True,  # a build is all or nothing: what a failed build has not begun need not be stopped
        begin=name_process,
        beat=lambda instance, run: beat(instance, run.run_id),
        beat_seconds=seconds_between_beats(settings.host_patience_seconds),
    )


@cache
def _pinned() -> PinnedDefinitions:
    settings = load_settings()
    return PinnedDefinitions(settings, partial(definitions, settings))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Definitions are many long-lived objects: garbage collection would take a quarter of the time."""
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
