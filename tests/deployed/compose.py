"""A factory that Compose runs, on ports and in volumes of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.oci import OciRegistry
from tests.deployed.site import Scene, Site, wait_for
from tests.emulators.message_service import MessageService
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

DEPLOY = Path(__file__).parents[2] / "deploy"
PASSWORD = secrets.token_hex(8)
SUFFIX = "-compose"
NOTIFICATIONS = """\
owners: {others: operators}
rules:
  - {events: [build_failed], to: [owners]}
"""
PORTS = (
    "PGPORT",
    "AML_IMAGES_CODE_PORT",
    "AML_IMAGES_WEBSERVER_PORT",
    "AML_IMAGES_READ_ONLY_PORT",
    "STAGING_PORT",
    "PRODUCTION_PORT",
    "SITE_PORT",
)


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass(kw_only=True)
class Deployed(Scene):
    """What Compose runs.

    Attributes:
        folder: deploy/compose with .env, factory.env and users.
        messages: Gets what is notified.
        production: Its production registry.
        project: Of Compose.
        files: Of `folder`, what Compose starts.
    """

    folder: Path
    messages: MessageService
    production: OciRegistry
    project: str
    files: tuple[str, ...]

    def compose(self, *arguments: str) -> str:
        """`docker compose` on its files."""
        command = ["docker", "compose", "--project-name", self.project, "--profile", "registries"]
        command += [part for file in self.files for part in ("--file", str(self.folder / file))]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=570)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout

    def command(self, *arguments: str) -> Any:
        """What a command of the factory prints as JSON, inside of the code server's container."""
        return json.loads(self.compose("exec", "-T", "code", "aml-images", *arguments, "--json"))


def read_password_hash(image: str) -> str:
    command = ["docker", "run", "--rm", image, "caddy", "hash-password", "--plaintext", PASSWORD]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def deploy(
    root: Path,
    factory_image: str,
    stand_ins: dict[str, str],
    staging: OciRegistry,
    busybox: Reference,
    engine_client: docker.DockerClient,
    files: tuple[str, ...] = ("compose.yaml",),
) -> Iterator[Deployed]:
    """Start a factory by Compose, with registries of its own; it is removed at the end.

    Args:
        root: An empty folder for its files.
        factory_image: The image of the factory.
        stand_ins: The images of others, by the variables that name them.
        staging: Where the base image is taken from.
        busybox: The base image.
        engine_client: The engine that runs it, and that it builds with.
        files: Those of deploy/compose that tell what to start.
    """
    shutil.copytree(DEPLOY, root / "deploy")
    folder = root / "deploy" / "compose"
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    site = f"http://127.0.0.1:{ports.pop('SITE_PORT')}"
    own = {name: f"127.0.0.1:{ports[f'{name}_PORT']}" for name in ("STAGING", "PRODUCTION")}
    repository = ImageRepository.create(root / "repository", own["STAGING"], own["PRODUCTION"], SUFFIX)
    repository.write(repository.root / "notifications.yaml", NOTIFICATIONS)
    repository.commit("who is notified")
    variables = {
        "AML_IMAGES_IMAGE": factory_image,
        "AML_IMAGES_REPOSITORY": repository.root,
        "AML_IMAGES_SITE": site,
        "AML_IMAGES_WRITERS": "ada",
        "AML_IMAGES_BACKUPS": root / "backups",
        "DOCKER_GROUP": Path("/var/run/docker.sock").stat().st_gid,
        "PGPASSWORD": secrets.token_hex(16),
        **ports,
        **stand_ins,
    }
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    (folder / "users").write_text(f"ada {read_password_hash(stand_ins['CADDY_IMAGE'])}\n")
    with MessageService() as messages:
        (folder / "factory.env").write_text(f"AML_IMAGES_NOTIFY_OPERATORS={messages.address('operators')}\n")
        registries = [OciRegistry(own[name]) for name in ("STAGING", "PRODUCTION")]
        project = f"aml-images-test-{secrets.token_hex(4)}"
        found = Deployed(
            Site(site, ("ada", PASSWORD)),
            repository,
            registries[0],
            engine_client,
            folder=folder,
            messages=messages,
            production=registries[1],
            project=project,
            files=files,
        )
        try:
            found.compose("up", "--detach", "--wait", "staging")
            wait_for(lambda: _answers(registries[0]), "the registry answers", 60)
            name = "mirror/docker.io/library/busybox"
            copy_image(staging, registries[0], busybox, name)
            registries[0].tag(Reference(registries[0].host, name, digest=busybox.digest), "latest")
            found.compose("up", "--detach", "--wait")
            wait_for(found.site.is_loaded, "the code location is loaded")
            yield found
        except BaseException:
            with suppress(AssertionError):
                (Path(os.environ.get("PYTEST_DEBUG_TEMPROOT", "/tmp")) / "compose.log").write_text(
                    found.compose("logs", "--no-color", "--tail", "200")
                )
            raise
        finally:
            found.compose("down", "--volumes", "--timeout", "10")


def _answers(registry: OciRegistry) -> bool:
    try:
        registry.repositories()
    except Unreachable:
        return False
    return True
