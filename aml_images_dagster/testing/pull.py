"""Fetching the image under test from its registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docker.errors import APIError

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.testing.docker_connection import engine_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient

    from aml_images_dagster.engine.interface import RegistryLogin


def pull(client: DockerClient, reference: str, log: Callable[[str], None], login: RegistryLogin | None = None) -> str:
    """Make the engine fetch an image from its registry and return the name to start containers from.

    The registry is asked even when the engine has the image, so that what runs is what the registry serves.

    Raises:
        Unreachable: The registry refuses, does not answer or has no such image.
    """
    image = Reference.parse(reference)
    name = f"{image.name}@{image.digest}" if image.digest else str(image)
    log(f"pulling {name}")
    auth = {"username": login.username, "password": login.password} if login else None
    try:
        for message in client.api.pull(image.name, tag=image.version, stream=True, decode=True, auth_config=auth):
            if "error" in message:
                raise _not_pulled(name, str(message["error"]))
    except APIError as error:
        raise _not_pulled(name, engine_message(error)) from error
    return name


def _not_pulled(name: str, why: str) -> Unreachable:
    return Unreachable(
        f"the image cannot be pulled: {why}",
        where=name,
        mend="Check that the registry answers, that the engine may pull from it, and that the digest still exists.",
    )
