"""A build that a sensor or a schedule asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.request import COMMIT_TAG, TRIGGER_TAG, build_config, build_keys
from aml_images_dagster.build.selection import with_needed_parents
from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import Logger

    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.automation.main_branch import MainImages
    from aml_images_dagster.catalog.descent import Reasons


def main_build(
    workshop: Workshop,
    main: MainImages,
    images: Reasons,
    log: Logger,
    *,
    run_key: str,
    trigger: str,
    tags: Mapping[str, str],
    force: bool = False,
) -> dg.RunRequest:
    """Ask for a build of images of the main branch, and of the parents that they can't be built without.

    Args:
        workshop: The parts that know which parents can be had.
        main: The main branch.
        images: What to build, and why.
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
    return dg.RunRequest(
        run_key=run_key,
        job_name=None,
        asset_selection=build_keys(image for image in selection if image in main.loaded),
        run_config=build_config(
            source_commit=main.commit, force=force, reasons={k: list(v) for k, v in selection.items()}
        ),
        tags={TRIGGER_TAG: trigger, **({COMMIT_TAG: main.commit} if main.commit else {}), **tags},
    )
