"""What is left of a build, as seen from outside: nothing here asks the product."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import docker.errors
import requests

from aml_images_dagster.errors import FactoryError
from tests.faults.alone import naming

if TYPE_CHECKING:
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.faults.own_engine import OwnEngine
    from tests.faults.own_registry import OwnRegistry

RELEASE_FILES = ("release.json", "import.cfg", "drop")
LABEL = "aml-images.build"


@dataclass(frozen=True)
class Left:
    """Names of what is left, by kind.

    `instructions` are processes of RUN, which have a word in their command line that only this repository has.
    `unreachable_manifests` are of no build in particular: what staging holds and no tag leads to.
    """

    staged_tags: tuple[str, ...] = ()
    unreachable_manifests: tuple[str, ...] = ()
    local_tags: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    temporary_folders: tuple[str, ...] = ()
    release_files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        counts = [(len(getattr(self, field.name)), field.name.replace("_", " ")) for field in fields(self)]
        return ", ".join(f"{n} {kind[:-1] if n == 1 else kind}" for n, kind in counts if n) or "nothing"


@dataclass(frozen=True)
class Sample:
    """What was seen at a time; `left` is None when the engine or the registry did not answer."""

    time: float
    left: Left | None
    status: str

    @property
    def clean(self) -> bool:
        return self.left is not None and not self.left and self.status in ("failed", "canceled", "no record")


@dataclass(frozen=True)
class Eyes:
    """Where to look.

    Attributes:
        engine: An engine that nobody else uses.
        registry: Staging, asked directly.
        disk: What staging stores, below the same host.
        families: Repositories of the registry.
        artifacts: Folder of all builds.
        mark: A word in every RUN that may be running.
    """

    engine: OwnEngine
    registry: OciRegistry
    disk: OwnRegistry
    families: tuple[str, ...]
    artifacts: Path
    mark: str

    def look(self, build: str) -> Sample:
        status = self.status(build)
        try:
            return Sample(time.time(), self._left(build), status)
        except (FactoryError, docker.errors.DockerException, requests.RequestException):
            return Sample(time.time(), None, status)

    def status(self, build: str) -> str:
        try:
            return str(json.loads((self.artifacts / build / "build.json").read_text())["status"])
        except FileNotFoundError:
            return "no record"

    def tags(self, build: str = "") -> tuple[str, ...]:
        return tuple(
            f"{family}:{tag}" for family in self.families for tag in self.registry.tags(family) if tag.endswith(build)
        )

    def unreachable(self) -> tuple[str, ...]:
        """What staging holds, and no tag leads to."""
        return tuple(f"{family}@{name}" for family in self.families for name in self.disk.stored(family).unreachable())

    def instructions(self) -> tuple[str, ...]:
        """Processes of RUN that are alive."""
        return tuple(str(pid) for pid in naming(self.mark))

    def _left(self, build: str) -> Left:
        with self.engine.client() as client:
            containers = client.api.containers(all=True)
            filters = {"label": f"{LABEL}={build}"}
            networks = client.api.networks(filters=filters)
            volumes = client.api.volumes(filters=filters)["Volumes"] or []
            images = client.api.images()
        labels = {container["Names"][0]: container["Labels"].get(LABEL) for container in containers}
        folder = self.artifacts / build
        return Left(
            staged_tags=self.tags(f"--{build}"),
            unreachable_manifests=self.unreachable(),
            local_tags=tuple(t for image in images for t in image["RepoTags"] or () if t.endswith(f"--{build}")),
            containers=tuple(name for name, label in labels.items() if label == build),
            instructions=self.instructions(),
            networks=tuple(network["Name"] for network in networks),
            volumes=tuple(volume["Name"] for volume in volumes),
            temporary_folders=tuple(map(str, Path(tempfile.gettempdir()).glob(f"aml-images-{build}-*"))),
            release_files=tuple(name for name in RELEASE_FILES if (folder / name).exists()),
        )


class Observer:
    """Looks at a build again and again, in a thread of its own, until it is told to stop."""

    def __init__(self, eyes: Eyes, build: str, every_seconds: float = 0.5) -> None:
        self._eyes = eyes
        self._build = build
        self._every = every_seconds
        self._stop = threading.Event()
        self.samples = [eyes.look(build)]
        self._thread = threading.Thread(target=self._observe, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> Sample:
        sample = self._eyes.look(self._build)
        self.samples.append(sample)
        return sample

    def at(self, moment: float) -> Sample:
        """The last sample up to a moment."""
        first, *later = self._sorted()
        return max((sample for sample in later if sample.time <= moment), key=lambda s: s.time, default=first)

    def clean_since(self) -> float | None:
        """Since when nothing has been left; None when something is."""
        since = None
        for sample in self._sorted():
            since = (since or sample.time) if sample.clean else None
        return since

    def _sorted(self) -> list[Sample]:
        return sorted(self.samples, key=lambda sample: sample.time)

    def _observe(self) -> None:
        while not self._stop.wait(self._every):
            self.look()
