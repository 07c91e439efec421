"""A build that a sensor or a schedule asks for."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from aml_images_dagster.assets.keys import BUILD_JOB, image_of
from aml_images_dagster.assets.options import RESOURCE
from aml_images_dagster.assets.request import COMMIT_TAG, PULL_REQUEST_TAG, TRIGGER_TAG, build_config, build_keys
from aml_images_dagster.builds.release_number import next_release_num
from aml_images_dagster.builds.selection import with_needed_parents
from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import date
    from logging import Logger

    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.automation.main_branch import MainImages
    from aml_images_dagster.catalog.descent import Reasons


def main_build(
    workshop: Workshop,
    main: MainImages,
    images: Reasons,
    instance: dg.DagsterInstance,
    log: Logger,
    *,
    run_key: str,
    trigger: str,
    tags: Mapping[str, str],
    force: bool = False,
) -> dg.RunRequest:
    """Ask for a build of images of the main branch, and of the parents that they can't be built without.

    It takes the next free release number of the day, so that its release isn't refused for another build's sake.

    Args:
        workshop: The parts that know which parents can be had.
        main: The main branch.
        images: What to build, and why.
        instance: Knows the builds that have yet to begin.
        log: Takes what a person should know.
        run_key: Dagster starts no second run with the same.
        trigger: What asks, in a word or two.
        tags: Further tags of the run.
        force: Build and test anew even what has passed already.
    """
    workshop.parts.resolver.forget()
    try:
        selection = with_needed_parents(images, main.source, workshop.parts, workshop.settings)
    except FactoryError as error:
        # The build says it as well, if a parent is really missing; a registry that is away now must not cost a tick.
        log.warning(f"parents are not looked for: {error}")
        selection = dict(images)
    today = datetime.now(UTC).date()
    try:
        number = next_release_num(today, selection, workshop.parts.artifacts, _promised(today, selection, instance))
    except FactoryError as error:  # a damaged record of another build must not cost the tick, either
        log.warning(f"the release number is 1, because others of today can't be read: {error}")
        number = 1
    return dg.RunRequest(
        run_key=run_key,
        job_name=None,
        asset_selection=build_keys(image for image in selection if image in main.loaded),
        run_config=build_config(
            release_num=number,
            source_commit=main.commit,
            force=force,
            reasons={k: list(v) for k, v in selection.items()},
        ),
        tags={TRIGGER_TAG: trigger, **({COMMIT_TAG: main.commit} if main.commit else {}), **tags},
    )


def _promised(day: date, images: Collection[str], instance: dg.DagsterInstance) -> Iterator[int]:
    """Numbers of runs of the day that have not ended; those that wait have written nothing yet."""
    midnight = datetime.combine(day, time(), UTC)
    waiting = dg.RunsFilter(job_name=BUILD_JOB, statuses=NOT_FINISHED_STATUSES, created_after=midnight)
    for run in instance.get_runs(waiting):
        built = {split[0] for key in run.asset_selection or () if (split := image_of(key))}
        if PULL_REQUEST_TAG not in run.tags and not built.isdisjoint(images):
            config: Mapping[str, Any] = run.run_config
            yield config.get("resources", {}).get(RESOURCE, {}).get("config", {}).get("release_num") or 1
