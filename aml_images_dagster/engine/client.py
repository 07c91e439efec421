"""The `docker` package's client, with what streams need: bounded requests that another thread can end.

This module imports docker-py; import it only where an engine is used.
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
from docker.utils import kwargs_from_env

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from aml_images_dagster.engine.interface import RegistryLogin


class EngineClient(docker.APIClient):
    """An `APIClient` for one operation.

    docker-py sends builds and pulls without any time-out and keeps the response to itself. Here every
    request has the client's time-out, and `abort` ends the latest response whatever it waits for.
    """

    latest: requests.Response | None = None

    def sign_in(self, logins: Mapping[str, RegistryLogin]) -> None:
        """Use these logins for what a build pulls.

        docker-py takes the logins of a build from its configuration; this client's is a copy of its own.
        """
        for host, login in logins.items():
            entry = {"username": login.username, "password": login.password}
            self._auth_configs.add_auth(host, entry)  # type: ignore[attr-defined]

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request with a time-out and remember its response."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        self.latest = super().send(request, **kwargs)
        return self.latest

    def image(self, reference: str) -> dict[str, Any]:
        """What the engine knows of an image. `docker.errors.ImageNotFound` when it has none."""
        return dict(self.inspect_image(reference))  # type: ignore[no-untyped-call]

    def find_image(self, reference: str) -> dict[str, Any] | None:
        """What the engine knows of an image; None when it has none."""
        try:
            return self.image(reference)
        except docker.errors.ImageNotFound:
            return None

    def abort(self) -> None:
        """End the latest response; a thread that reads from it wakes up and sees its end."""
        if self.latest is not None:
            # ValueError and RuntimeError: the response had ended already. OSError: so had the connection.
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                self.latest.raw.shutdown()

    def end_response(self) -> None:
        """Close the connection of the latest response: this makes an engine stop its work."""
        if self.latest is not None:
            self.latest.close()


def connect(host: str | None, timeout_seconds: float) -> EngineClient:
    """Open a client.

    Args:
        host: URL of the engine; None takes DOCKER_HOST, else this machine's socket. TLS is configured as
            for the docker command, by DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
        timeout_seconds: Longest wait for any single answer.

    Raises:
        docker.errors.DockerException: Nothing answers there.
    """
    environment = dict(os.environ) if host is None else {**os.environ, "DOCKER_HOST": host}
    options = kwargs_from_env(environment=environment)
    # The installed ssh program knows the user's keys, hosts and jump hosts.
    over_ssh = options.get("base_url", "").startswith("ssh://")
    return EngineClient(timeout=math.ceil(timeout_seconds), use_ssh_client=over_ssh, **options)
