"""Planning a build before its run is requested, in the seconds that a tick has."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.plan import plan_build
from aml_images_dagster.builds.preflight import check_folders, check_plan
from aml_images_dagster.defs.request import build_keys, plan_keys, plan_pull_request_keys, pull_request_keys
from aml_images_dagster.errors import FactoryError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import dagster as dg

    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.builds.selection import Selection
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.defs.run import Workshop


@dataclass(frozen=True, slots=True)
class ToDo:
    """What a run is to be started for.

    Attributes:
        keys: The assets that it makes.
        options: The fields of `BuildOptions` that say what the build is of.
        unplanned: Why there is no plan, so that the run has the whole chains and plans itself; else empty.
    """

    keys: list[dg.AssetKey]
    options: Mapping[str, Any]
    unplanned: str = ""


def to_do(
    workshop: Workshop,
    selection: Selection,
    source: Callable[[], Source],
    *,
    seconds: float,
    force: bool = False,
    pull_request: str = "",
) -> ToDo:
    """What has to be done for a build of some images, as a plan says that is kept for the run.

    What stands in the way of a plan is no failure here: the steps of a run without one say it, and the build shows it.

    Args:
        workshop: Settings and parts.
        selection: The images, each with its reasons.
        source: Opens the image folders.
        seconds: How long registries are waited for.
        force: Build and test again even what has passed already.
        pull_request: Number of the pull request that it is for; empty for any other build.
    """
    reasons = {image: list(why) for image, why in selection.items()}

    def plan() -> Plan:
        opened = source()
        check_folders(opened, selection)
        found = plan_build(selection, opened, workshop.parts, workshop.settings, force=force, pull_request=pull_request)
        check_plan(found)
        return found

    try:
        found = _within(seconds, plan)
        name = workshop.parts.artifacts.write_plan(found, datetime.now(UTC))
    except (FactoryError, OSError) as error:
        keys = pull_request_keys(selection) if pull_request else build_keys(selection)
        return ToDo(keys, {"reasons": reasons}, str(error))
    if pull_request:
        return ToDo(plan_pull_request_keys(found), {"plan": name, "reasons": reasons})
    return ToDo(plan_keys(found), {"plan": name})


def _within(seconds: float, ask: Callable[[], Plan]) -> Plan:
    """An answer within some seconds: a registry that hangs, which a stranger may have named, must not cost a tick.

    Raises:
        Unreachable: There is none yet.
    """
    answers: Queue[Plan | Exception] = Queue()

    def answer() -> None:
        try:
            answers.put(ask())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where it was asked for
            answers.put(error)

    threading.Thread(target=answer, name="plan", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except Empty:
        raise Unreachable(f"the plan was not complete within {seconds:g} s", where="registries") from None
    if isinstance(found, Exception):
        raise found
    return found
