"""The interface of builders of images.

Implementations: `buildkit/`, `engine_builder.py` on `docker_engine.py`, and `acr_tasks/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from aml_images_dagster.errors import BuildFailed, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.catalog.builder_features import BuilderFeatures

OperatingSystem = Literal["linux", "windows"]


LogLine = Callable[[str], None]
"""Receives the engine's output line by line, as it comes."""


class TooManyRequests(Unreachable):
    """A registry wants the engine to come again later. Engines do not say how much later."""


class DockerfileFailed(BuildFailed):
    """An instruction of the Dockerfile failed, or the builder refuses it.

    Args:
        what: See `FactoryError`.
        where: See `FactoryError`.
        hint: See `FactoryError`.
        log: See `BuildFailed`.
        line: Of the Dockerfile that was built; None where the builder does not say.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "", log: str = "", line: int | None = None) -> None:
        super().__init__(what, where=where, hint=hint, log=log)
        self.line = line


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The properties of an engine.

    Attributes:
        version: The engine's version, e.g. `20.10.24`; of a service its name.
        os: The operating system of the containers that it runs.
        architecture: As in OCI, e.g. `amd64`.
        os_version: For Windows the OS build, e.g. `10.0.20348.2031`; else the distribution's name. None for a service
            that picks a machine when a build starts.
        free_bytes: Free space where the engine keeps its images; None for an engine elsewhere.
        network_mtu: MTU of the default bridge network, in bytes; None when the engine does not say.
    """

    version: str
    os: OperatingSystem
    architecture: str
    os_version: str | None
    free_bytes: int | None = None
    network_mtu: int | None = None


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Name and password for one registry, used for one call and never stored by the engine."""

    username: str
    password: str = field(repr=False)


LoginFor = Callable[[str], RegistryLogin | None]
"""A login for a registry's host, fresh at every call; None for a registry that is open to us."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One image to build.

    Attributes:
        context: A tar file: the build context with the rendered Dockerfile in it.
        dockerfile: Path of the Dockerfile inside the context.
        tag: The staging reference that the image gets.
        build_args: Values for ARG.
        platform: e.g. `linux/amd64`; verified after the build, because engines ignore it for local bases. Several,
            with commas between, make an index. BuildKit only.
        timeout_seconds: The whole build may take this long.
        network: Network of RUN instructions; None is the engine's default.
        target: A stage to stop at; None builds the last one.
        no_cache: Run every instruction again, e.g. to bring in newer packages.
        logins: Logins by registry host, for pulling what the Dockerfile is FROM.
        look_for: Absolute paths of files, to see whether they are in the image.
        cache_name: Local name under which an engine keeps the layers, for the next build of the image.
        cache_reference: Where a registry keeps the layers; empty for nowhere. BuildKit only.
        cache_group: Builds of different groups share no cache mounts. BuildKit only.
        secrets: Values of secrets that RUN may mount, by id. BuildKit only.
        ssh: Whether RUN may use the keys of this user's ssh agent. BuildKit only.
        frontend: Image of the Dockerfile frontend, by digest; empty takes the builder's own. BuildKit only.
        epoch: Unix time: nothing in the image and its history gets a later one, and a Dockerfile may read it as ARG
            SOURCE_DATE_EPOCH; None leaves the times of the build. BuildKit only.
        rewrite_timestamp: Whether files get no later time, either. BuildKit only.
    """

    context: Path
    dockerfile: str
    tag: str
    platform: str
    timeout_seconds: float
    build_args: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    target: str | None = None
    no_cache: bool = False
    logins: Mapping[str, RegistryLogin] = field(default_factory=dict)
    look_for: tuple[str, ...] = ()
    cache_name: str = ""
    cache_reference: str = ""
    cache_group: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssh: bool = False
    frontend: str = ""
    epoch: int | None = None
    rewrite_timestamp: bool = False


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image in the engine's own store.

    Attributes:
        image_id: The engine's id, `sha256:…` (the digest of the image's configuration).
        size_bytes: Size as the engine counts it, unpacked.
        os: e.g. `linux`.
        architecture: e.g. `amd64`.
    """

    image_id: str
    size_bytes: int
    os: str
    architecture: str


@dataclass(frozen=True, slots=True)
class PushedImage:
    """An image that a builder has pushed.

    Attributes:
        digest: What the registry was given; None when the builder does not say.
        files: Which of the files to look for are in it; None when the builder cannot look inside.
    """

    digest: str | None
    files: Mapping[str, bool] | None


class Builder(Protocol):
    """Builds images and pushes them, here or elsewhere. Every method raises `Unreachable` when it does not answer."""

    def info(self) -> EngineInfo:
        """What it builds on."""

    def features(self) -> BuilderFeatures:
        """What it can do with a Dockerfile.

        Raises:
            BadInput: Something is missing that it needs.
        """

    def build_and_push(
        self,
        request: BuildRequest,
        log: LogLine,
        *,
        still_wanted: Callable[[], None],
        started: Callable[[str], None],
        pushes: Callable[[str], None] = lambda _: None,
    ) -> PushedImage:
        """Build an image and push it under its tag.

        Args:
            request: What to build.
            log: Receives the output.
            still_wanted: Raises when the image is not wanted any more; asked before anything is pushed, at the latest.
            started: Receives the name of remote work that continues without this process; see `abandon`.
            pushes: Receives the digest of each image of an index before it is pushed: nothing has a tag before the
                index has, so that none can be found when a push ends halfway.

        Raises:
            BuildFailed: A failing instruction, a bad Dockerfile, the deadline, a full disk; carries the log's end.
            Unreachable: What builds was lost, or the registry refuses.
        """

    def abandon(self, tag: str, work: str | None) -> None:
        """Remove what a build that was killed left behind under a tag; absent is fine.

        Args:
            tag: The tag of the request.
            work: What `started` received; None when it received nothing.
        """

    def sweep(self) -> int:
        """Remove old leftovers of any failed builds; return their size."""


class LocalBuilder(Protocol):
    """Builds images that stay in an engine of this machine, to see that they can be built."""

    def build(self, request: BuildRequest, log: LogLine) -> object:
        """Build an image; others can be FROM its tag.

        Raises:
            BuildFailed: A failing instruction, a bad Dockerfile, the deadline, a full disk; carries the log's end.
            Unreachable: The engine was lost while it built.
        """

    def forget(self, reference: str) -> None:
        """Remove a local tag, its layers when nothing else uses them. Absent is fine."""


class Engine(Protocol):
    """A container engine. Every method raises `Unreachable` when it does not answer."""

    def info(self) -> EngineInfo:
        """Version, platform and free space."""

    def build(self, request: BuildRequest, log: LogLine) -> BuiltImage:
        """Build an image.

        Raises:
            BuildFailed: A failing instruction, a bad Dockerfile, the deadline, a full disk; carries the log's end.
            Unreachable: The engine was lost while it built.
        """

    def push(self, reference: str, log: LogLine, login: RegistryLogin | None = None) -> str:
        """Push a tagged image and return the digest that the registry was given.

        Raises:
            Unreachable: The registry refuses or does not answer.
        """

    def pull(self, reference: str, log: LogLine, login: RegistryLogin | None = None, *, platform: str = "") -> str:
        """Pull an image and return the engine's image id.

        Args:
            reference: The image.
            log: Receives the output.
            login: For the registry.
            platform: Platform of the image, if it is not the engine's own.

        Raises:
            Unreachable: The registry refuses or does not answer, or has no such image.
        """

    def local_digest(self, reference: str) -> str | None:
        """The registry digest under which the engine holds this reference; None when it has none."""

    def keep_as_cache(self, reference: str, cache_name: str) -> None:
        """Rename a local image to a name that only serves the layer cache, replacing the one before."""

    def forget(self, reference: str) -> None:
        """Remove a local tag, its layers when nothing else uses them, and containers of its builds. Absent is fine."""

    def paths_exist(self, reference: str, paths: tuple[str, ...]) -> dict[str, bool]:
        """Which of the absolute paths exist in an image, without running it."""

    def sweep_build_containers(self) -> int:
        """Remove dead containers that failed builds left behind; how many."""
