"""Planning a build before its run is requested."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

import dagster as dg

from aml_images_dagster.builds.planning.plan import plan_build, within
from aml_images_dagster.builds.planning.preflight import check_folders, check_plan
from aml_images_dagster.defs.keys import BUILD_JOB
from aml_images_dagster.defs.request import (
    PULL_REQUEST_TAG,
    build_keys,
    options_of,
    plan_keys,
    plan_pull_request_keys,
    pull_request_keys,
)
from aml_images_dagster.defs.run import images_of
from aml_images_dagster.defs.run_state import UNFINISHED
from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import date

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.planning.plan import Selection
    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.defs.run import Factory
    from aml_images_dagster.pull_requests.changes import Changes


@dataclass(frozen=True, slots=True)
class ToDo:
    """What a run has to do.

    Attributes:
        keys: The assets that it makes.
        options: The fields of `BuildOptions` that say what the build is of.
        unplanned: Why there is no plan, so that the run has the whole chains and plans itself; else empty.
    """

    keys: list[dg.AssetKey]
    options: Mapping[str, Any]
    unplanned: str = ""


def to_do(factory: Factory, selection: Selection, source: Source, *, seconds: float, force: bool = False) -> ToDo:
    """What has to be done for a build of some images, as a plan says that is kept for the run.

    An error in the plan is no failure here: the steps of a run without a plan report it, and the build shows it.

    Args:
        factory: Settings and backends.
        selection: The images, each with its reasons.
        source: The image folders.
        seconds: How long registries are waited for.
        force: Build and test again even if the image has passed already.
    """

    def plan() -> Plan:
        check_folders(source, selection, factory.backends)
        found = plan_build(selection, source, factory.backends, factory.settings, force=force)
        check_plan(found)
        return found

    try:
        found = within(seconds, plan)
        name = factory.backends.artifacts.write_plan(found, datetime.now(UTC))
    except (FactoryError, OSError) as error:
        reasons = {image: list(why) for image, why in selection.items()}
        return ToDo(build_keys(selection), {"reasons": reasons}, str(error))
    return ToDo(plan_keys(found), {"plan": name})


def pull_request_to_do(factory: Factory, changes: Changes) -> ToDo:
    """What has to be done for a pull request, from the plan that its evaluation has made."""
    reasons = {image: list(why) for image, why in changes.reasons.items()}
    if changes.plan is None:
        return ToDo(pull_request_keys(reasons), {"reasons": reasons}, "no plan could be made")
    try:
        name = factory.backends.artifacts.write_plan(changes.plan, datetime.now(UTC))
    except (FactoryError, OSError) as error:
        return ToDo(pull_request_keys(reasons), {"reasons": reasons}, str(error))
    return ToDo(plan_pull_request_keys(changes.plan), {"plan": name, "reasons": reasons})


def promised_numbers(
    day: date, images: Collection[str], artifacts: Artifacts, instance: dg.DagsterInstance
) -> Iterator[int]:
    """Release numbers of runs of a day that have not ended and build some of the images; queued ones have no record."""
    midnight = datetime.combine(day, time(), UTC)
    waiting = dg.RunsFilter(job_name=BUILD_JOB, statuses=UNFINISHED, created_after=midnight)
    for record in instance.get_run_records(waiting):
        run = record.dagster_run
        if PULL_REQUEST_TAG not in run.tags and not images_of(record, artifacts).isdisjoint(images):
            number = options_of(run).get("release_num")
            yield number if isinstance(number, int) and number else 1  # else the name of a variable, which has it
