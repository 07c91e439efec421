"""A `Builder` on BuildKit: one call of buildx for each image, which also pushes it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import tarfile
import tempfile
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from aml_images_dagster.catalog.builder_features import REWRITE_TIMESTAMP, SEVERAL_PLATFORMS, BuilderFeatures
from aml_images_dagster.catalog.reference import Reference, is_digest
from aml_images_dagster.engine.buildkit.buildx import follow_call
from aml_images_dagster.engine.buildkit.credentials import served_logins
from aml_images_dagster.engine.buildkit.faults import BuilderLost, PushFailed, fault_of
from aml_images_dagster.engine.buildkit.features import supported_features
from aml_images_dagster.engine.buildkit.progress import Progress
from aml_images_dagster.engine.faults import PUSHED_AGAIN_AFTER_SECONDS, once_more_when_back, repeated_after
from aml_images_dagster.engine.interface import Builder, EngineInfo, LocalBuilder, PushedImage
from aml_images_dagster.errors import BuildFailed, FactoryError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aml_images_dagster.engine.buildkit.buildx import BuilderInfo, Buildx
    from aml_images_dagster.engine.docker_engine import DockerEngine
    from aml_images_dagster.engine.interface import BuildRequest, LoginFor, LogLine, RegistryLogin

# An older buildx lets the engine push the tag that it has, too: without one in the engine it fails, and with one of
# another build that older image is published. Source: https://github.com/docker/buildx/commit/4f7d145c0.
_PUSHES_ONCE = (0, 22)
# Source: docs/build-repro.md of https://github.com/moby/buildkit, and its version in vendor.mod of moby/moby.
_FIRST_BUILDKIT_THAT_SETS_TIMES, _FIRST_ENGINE_THAT_SETS_TIMES = (0, 13), (26, 0)
_UNKNOWN = (0, 0)
"""What a BuildKit calls itself that a distribution has built."""
_EPOCH = "SOURCE_DATE_EPOCH"
_AS_WRITTEN: dict[str, Any] = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
"""How Python unpacks what the factory has packed: with links and modes. That of Debian 12, 3.11.2, has no filters."""
_NO_IMAGE_STORE = "the engine keeps no images in containerd's store (features.containerd-snapshotter in daemon.json)"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a builder can do that depends on more than the Dockerfile.

    Attributes:
        version: Of buildx.
        driver: See `BuilderInfo`.
        has_image_store: See `DockerEngine` and `BuilderInfo`.
    """

    version: tuple[int, int]
    driver: str
    has_image_store: bool

    @property
    def keeps_no_image(self) -> bool:
        """Whether the image can go straight to the registry, and leave nothing but cache."""
        return self.driver != "docker" or (self.has_image_store and self.version >= _PUSHES_ONCE)

    @property
    def exports_cache(self) -> bool:
        """Whether layers can be kept in a registry."""
        return self.driver != "docker" or self.has_image_store


class BuildKitBuilder(Builder, LocalBuilder):
    """A `Builder` on the BuildKit of an engine, or on one that runs elsewhere.

    Args:
        buildx: Calls the builder.
        engine: The engine whose BuildKit it is; None for a builder that runs elsewhere.
        login_for: Logins for pushing, asked whenever a token is needed.
        features_file: Where the answers of builders about their features are kept.
        wait_seconds: How long a build waits for a builder that was lost, before it fails.
        push_seconds: How long one push may take.
        pauses: Before each further push to a registry that has too many requests, or errors of its own; in seconds.
    """

    def __init__(
        self,
        buildx: Buildx,
        engine: DockerEngine | None,
        login_for: LoginFor,
        *,
        features_file: Path,
        wait_seconds: float,
        push_seconds: float,
        pauses: tuple[float, ...] = PUSHED_AGAIN_AFTER_SECONDS,
    ) -> None:
        self._buildx = buildx
        self._engine = engine
        self._login_for = login_for
        self._features_file = features_file
        self._wait_seconds = wait_seconds
        self._push_seconds = push_seconds
        self._pauses = pauses

    @override
    def info(self) -> EngineInfo:
        return self._info(self._inspection())

    def _inspection(self) -> BuilderInfo | None:
        """What buildx says of a builder that runs elsewhere; None for that of an engine."""
        return None if self._engine is not None else self._buildx.inspect()

    def _info(self, found: BuilderInfo | None) -> EngineInfo:
        version = "buildx {}.{}".format(*self._buildx.version())
        if found is None:
            assert self._engine is not None  # noqa: S101 - one of the two is there
            info = self._engine.info()
            return replace(info, version=f"{info.version}, {version}")
        os_and_architecture = (found.platforms or ("linux/amd64",))[0].split("/")
        return EngineInfo(
            version=f"builder {self._buildx.builder} ({found.driver}), {version}",
            os="linux",
            architecture=os_and_architecture[1],
            os_version=None,
        )

    @override
    def features(self) -> BuilderFeatures:
        found = self._inspection()
        info, kind, versions = self._info(found), self._kind, found.versions if found else ()
        about = repr((info.version, kind, self._buildx.where, str(self._buildx.program), *versions))
        supported = supported_features(self._buildx, self._features_file, about)
        builder = f"BuildKit of {info.version}"
        if kind.driver == "docker" and not kind.has_image_store:
            return BuilderFeatures(builder, supported, _NO_IMAGE_STORE)
        made = {SEVERAL_PLATFORMS, REWRITE_TIMESTAMP} if self._sets_times(info, versions) else {SEVERAL_PLATFORMS}
        return BuilderFeatures(builder, supported | made)

    def _sets_times(self, info: EngineInfo, versions: Sequence[str]) -> bool:
        """Whether the builder can set the times of files; an older one ignores what it is asked to."""
        if not self._kind.keeps_no_image:
            return False
        if self._engine is not None:
            return _version(info.version) >= _FIRST_ENGINE_THAT_SETS_TIMES
        return all(each >= _FIRST_BUILDKIT_THAT_SETS_TIMES or each == _UNKNOWN for each in map(_version, versions))

    def build_and_push(
        self,
        request: BuildRequest,
        log: LogLine,
        *,
        still_wanted: Callable[[], None],
        started: Callable[[str], None],
        pushes: Callable[[str], None] = lambda _: None,
    ) -> PushedImage:
        """See `Builder.build_and_push`. A builder ends what a client that is gone has begun: `started` is not called.

        A push to a registry that has too many requests, or errors of its own, is repeated: what is built is cached.
        """
        attempts = itertools.chain([request], itertools.repeat(replace(request, no_cache=False)))
        return repeated_after(
            self._pauses,
            lambda: self._build_and_push(next(attempts), log, still_wanted, pushes),
            log,
            refused=PushFailed,
            doing="pushing",
            wait=lambda seconds: _pause(seconds, still_wanted),
        )

    @override
    def build(self, request: BuildRequest, log: LogLine) -> None:
        self._call(request, log, lambda: None, lambda _: None, is_pushed=False)

    @override
    def forget(self, reference: str) -> None:
        if self._engine is not None:
            self._engine.forget(reference)

    @override
    def abandon(self, tag: str, work: str | None) -> None:
        self.forget(tag)

    def sweep(self) -> int:
        """See `Builder.sweep`. BuildKit leaves no containers behind."""
        return 0

    @cached_property
    def _kind(self) -> _Kind:
        version = self._buildx.version()
        if self._engine is not None:
            return _Kind(version, "docker", self._engine.has_image_store)
        found = self._buildx.inspect()
        return _Kind(version, found.driver, found.has_image_store)

    def _build_and_push(
        self,
        request: BuildRequest,
        log: LogLine,
        still_wanted: Callable[[], None],
        pushes: Callable[[str], None],
    ) -> PushedImage:
        digest = once_more_when_back(
            lambda: self._call(request, log, still_wanted, pushes),
            log,
            ask=self._ask,
            tidy=lambda: None,
            wait_seconds=self._wait_seconds,
            lost=BuilderLost,
        )
        still_wanted()  # the push may have come after the cleanup; whoever stops now cleans up once more
        return PushedImage(digest, None)

    def _call(
        self,
        request: BuildRequest,
        log: LogLine,
        still_wanted: Callable[[], None],
        pushes: Callable[[str], None],
        *,
        is_pushed: bool = True,
    ) -> str:
        """Build, and push unless the image is to stay in the engine; the digest."""
        if self._engine is not None:
            self._engine.require_space(request.tag)
        with tempfile.TemporaryDirectory(prefix="buildx-", dir=request.context.parent) as folder:
            own = Path(folder)
            context, configuration, metadata = own / "context", own / "configuration", own / "metadata.json"
            configuration.mkdir(mode=0o700)
            # Of a context that comes as a tar file BuildKit does not read .dockerignore: it would let `COPY . /` have
            # the rendered Dockerfile with its private part.
            _unpack(request.context, context)
            hidden = [login.password for login in request.logins.values()] + list(request.secrets.values())
            progress = Progress(log, hidden, pushes if "," in request.platform else lambda _: None)
            secrets = {f"AML_IMAGES_SECRET_{number}": value for number, value in enumerate(request.secrets.values())}
            try:
                with served_logins(configuration, self._logins(request)) as variables:
                    ending = follow_call(
                        self._buildx.command(*self._arguments(request, metadata, is_pushed), str(context)),
                        self._buildx.environment(configuration, {**variables, **secrets}),
                        progress,
                        seconds=request.timeout_seconds,
                        push_seconds=self._push_seconds,
                        still_wanted=still_wanted,
                    )
            finally:
                if is_pushed:
                    self._forget_local(request.tag)
            if ending != "done":
                raise fault_of(
                    ending,
                    progress,
                    request,
                    where=self._buildx.where,
                    platforms=lambda: self._buildx.inspect().platforms,
                    push_seconds=self._push_seconds,
                    answers=self._answers,
                    space=self._free_space,
                )
            return _digest_in(metadata, request.tag)

    def _arguments(self, request: BuildRequest, metadata: Path, is_pushed: bool) -> list[str]:
        kind = self._kind
        output = f"type=image,name={request.tag}{',push=true' if is_pushed else ''}"
        goes_straight = is_pushed and kind.keeps_no_image
        arguments = dict(request.build_args)
        if kind.driver == "docker" and goes_straight:
            output += ",store=false,unpack=false"
        if request.epoch is not None:
            output += f",source-date-epoch={request.epoch}"
            # BuildKit 0.22 makes folders of WORKDIR at this time: with the time of each commit neither they nor what
            # follows would be in the cache.
            dockerfile = metadata.parent / "context" / request.dockerfile
            if request.rewrite_timestamp or _EPOCH in arguments or _names_epoch(dockerfile):
                arguments[_EPOCH] = str(request.epoch)
            # Not for every image: it packs all layers of the Dockerfile again, also those in the cache; and byte code
            # of Python no longer names the time of its source, so Python compiles it again.
            if request.rewrite_timestamp and goes_straight:
                output += ",rewrite-timestamp=true"
        if request.cache_group:
            arguments["BUILDKIT_CACHE_MOUNT_NS"] = request.cache_group
        if request.frontend:
            arguments["BUILDKIT_SYNTAX"] = request.frontend
        command = [
            f"--file={metadata.parent / 'context' / request.dockerfile}",
            f"--platform={request.platform}",
            "--progress=rawjson",
            f"--metadata-file={metadata}",
            f"--output={output}",
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *(f"--secret=id={name},env=AML_IMAGES_SECRET_{number}" for number, name in enumerate(request.secrets)),
        ]
        if request.ssh:
            command.append("--ssh=default")
        if request.target:
            command.append(f"--target={request.target}")
        if request.no_cache:
            command.append("--no-cache")
        if request.network:
            command.append(f"--network={request.network}")
            if request.network == "host" and kind.driver != "docker":
                command.append("--allow=network.host")
        if request.cache_reference and kind.exports_cache:
            where = f"type=registry,ref={request.cache_reference}"
            command += [f"--cache-from={where}", f"--cache-to={where},mode=max,ignore-error=true"]
        return command

    def _logins(self, request: BuildRequest) -> LoginFor:
        """Logins for the registries of this build, and no others."""
        ours = {Reference.parse(each).registry for each in (request.tag, request.cache_reference) if each}

        def login_for(host: str) -> RegistryLogin | None:
            return self._login_for(host) if host in {*ours, *request.logins} else None

        return login_for

    def _forget_local(self, tag: str) -> None:
        """Remove the tag under which an engine keeps what it has pushed. The layers stay in BuildKit's cache."""
        if self._engine is not None and not self._kind.keeps_no_image:
            with contextlib.suppress(Unreachable):  # lost; `abandon` does it later
                self._engine.forget(tag)

    def _ask(self) -> None:
        if self._engine is not None:
            self._engine.info()
        else:
            self._buildx.inspect()

    def _answers(self) -> bool:
        if self._engine is not None:
            return self._engine.answers()
        try:
            self._buildx.inspect()
        except FactoryError:
            return False
        return True

    def _free_space(self) -> tuple[str, int] | None:
        if self._engine is None:
            return None
        try:
            return self._engine.free_space()
        except Unreachable:
            return None


def _unpack(archive: Path, context: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        tar.extractall(context, **_AS_WRITTEN)  # noqa: S202 - the factory has packed it
    for member in members:
        if member.issym():  # tarfile leaves their time
            os.utime(context / member.name, (member.mtime, member.mtime), follow_symlinks=False)


def _names_epoch(dockerfile: Path) -> bool:
    return _EPOCH.encode() in dockerfile.read_bytes()


def _version(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else _UNKNOWN


def _digest_in(metadata: Path, tag: str) -> str:
    """What buildx wrote that it pushed; the caller compares it with what the registry serves."""
    try:
        digest = json.loads(metadata.read_text())["containerimage.digest"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        digest = None
    if not isinstance(digest, str) or not is_digest(digest):
        raise BuildFailed("buildx has ended well and does not say what it pushed", where=tag, hint="Build again.")
    return digest


def _pause(seconds: float, still_wanted: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        still_wanted()
        time.sleep(min(left, 1))
