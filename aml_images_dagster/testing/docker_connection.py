"""A connection to a Docker engine whose troubles are told as `Unreachable`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
import urllib3
from docker import DockerClient
from docker.errors import APIError, DockerException

from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE_ERRORS = (DockerException, requests.RequestException, urllib3.exceptions.HTTPError)

_REQUEST_SECONDS = 60


@contextmanager
def connected(docker_host: str | None) -> Iterator[DockerClient]:
    """A client of the engine at a URL, or of the one that the environment names (DOCKER_HOST).

    Raises:
        Unreachable: The engine does not answer, is lost on the way, or refuses a request.
    """
    place = docker_host or "the Docker engine"
    try:
        client = (
            DockerClient(base_url=docker_host, timeout=_REQUEST_SECONDS)
            if docker_host
            else DockerClient.from_env(timeout=_REQUEST_SECONDS)
        )
        try:
            yield client
        finally:
            client.close()
    except APIError as error:
        raise Unreachable(f"the engine refused: {engine_message(error)}", where=place) from error
    except ENGINE_ERRORS as error:
        raise Unreachable(
            f"the engine does not answer: {error}",
            where=place,
            mend="Start it, or set DOCKER_HOST or the engine's URL in the settings.",
        ) from error


def engine_message(error: APIError) -> str:
    """What the engine said, in one line."""
    return " ".join(str(error.explanation or error).split())
