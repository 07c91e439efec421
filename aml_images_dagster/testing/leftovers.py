"""Leftovers of jobs on an engine, found and removed by labels alone, from any process."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from docker.errors import APIError

from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient

BUILD = "aml-images.build"
IMAGE = "aml-images.image"
SCENARIO = "aml-images.scenario"
JOB = "aml-images.job"

_PATIENCE_SECONDS = 60
"""How long nothing goes before it is said what does not."""
_GONE = 404
_BUSY = {403, 409}
"""A removal that is already on its way, or a network or volume that still has containers."""


@dataclass(frozen=True, slots=True)
class _Thing:
    name: str
    remove: Callable[[], None]


def found(client: DockerClient, label: str, value: str) -> list[str]:
    """Names of all containers, networks and volumes that carry a label."""
    return [thing.name for group in _groups(client, label, value) for thing in group]


def remove(client: DockerClient, label: str, value: str) -> list[str]:
    """Remove everything that carries a label, and make sure that it is gone.

    Returns:
        Names of what was there.

    Raises:
        Unreachable: Something cannot be removed.
    """
    names: dict[str, None] = {}
    until, fewest = 0.0, sys.maxsize
    while True:
        groups = [group for group in _groups(client, label, value) if group]
        if not groups:
            return list(names)
        count = sum(map(len, groups))
        if count < fewest:  # as long as some of them go the others are waited for
            until, fewest = time.monotonic() + _PATIENCE_SECONDS, count
        names.update(dict.fromkeys(thing.name for group in groups for thing in group))
        if time.monotonic() > until:
            left = ", ".join(thing.name for group in groups for thing in group)
            raise Unreachable(
                f"the engine does not remove {left}",
                hint=f"Remove it manually; everything of the job has the label {label}={value}.",
            )
        # Containers hold their network and volumes, so one group goes before the next is tried.
        with ThreadPoolExecutor(max_workers=8) as pool:
            done = list(pool.map(_try_to_remove, groups[0]))
        if not all(done):
            time.sleep(0.1)


def _try_to_remove(thing: _Thing) -> bool:
    try:
        thing.remove()
    except APIError as error:
        if error.status_code == _GONE:
            return True
        if error.status_code in _BUSY:
            return False
        raise
    return True


def _groups(client: DockerClient, label: str, value: str) -> tuple[list[_Thing], list[_Thing], list[_Thing]]:
    """Containers, networks and volumes."""
    api = client.api
    filters = {"label": f"{label}={value}"}
    containers = api.containers(all=True, filters=filters)
    networks = api.networks(filters=filters)
    volumes = api.volumes(filters=filters)["Volumes"] or []
    return (
        [_Thing(_name(item), partial(api.remove_container, item["Id"], force=True, v=True)) for item in containers],
        [_Thing(item["Name"], partial(api.remove_network, item["Id"])) for item in networks],
        [_Thing(item["Name"], partial(api.remove_volume, item["Name"])) for item in volumes],
    )


def _name(container: dict[str, object]) -> str:
    names = container["Names"]
    return str(names[0]).lstrip("/") if isinstance(names, list) and names else str(container["Id"])
