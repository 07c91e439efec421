"""A connection to a Docker engine for running containers.

This module imports docker-py; import it only where an engine is used.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
import urllib3
from docker import DockerClient
from docker.errors import APIError, DockerException

from aml_images_dagster.engine.faults import engine_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE_ERRORS = (DockerException, requests.RequestException, urllib3.exceptions.HTTPError)
"""What docker-py raises when the engine refuses or does not answer."""

_ANSWER_SECONDS = 60


@contextmanager
def connected(docker_host: str | None) -> Iterator[DockerClient]:
    """A client of the engine at a URL, or of the one that the environment names (DOCKER_HOST).

    Raises:
        Unreachable: The engine does not answer, is lost on the way, or refuses a request.
    """
    environment = dict(os.environ) if docker_host is None else {**os.environ, "DOCKER_HOST": docker_host}
    place = environment.get("DOCKER_HOST", "the Docker engine")
    with engine_errors(place):
        client = DockerClient.from_env(
            timeout=_ANSWER_SECONDS, environment=environment, use_ssh_client=place.startswith("ssh://")
        )
        try:
            yield client
        finally:
            client.close()


def engine_message(error: APIError) -> str:
    """What the engine said, in one line."""
    return " ".join(str(error.explanation or error).split())
