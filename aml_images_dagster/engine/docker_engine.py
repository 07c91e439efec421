"""A Docker engine (or one that speaks its API), through the `docker` package and the engine's own builder.

Importing this module does not import docker-py: that costs tenths of a second in every process.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import os
import re
import shutil
import tarfile
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from aml_images_dagster.bounded import TooLong, beginning
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.faults import (
    PULLED_AGAIN_AFTER_SECONDS,
    ContentRemoved,
    build_fault,
    engine_errors,
    in_gigabytes,
    repeated_after,
    transfer_fault,
)
from aml_images_dagster.engine.interface import (
    BuildRequest,
    BuiltImage,
    Engine,
    EngineInfo,
    LogLine,
    OperatingSystem,
    RegistryLogin,
)
from aml_images_dagster.engine.stream import Event, StreamFault, follow
from aml_images_dagster.errors import BadInput, BuildFailed, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aml_images_dagster.engine.client import EngineClient

_SCHEMES = ("unix://", "tcp://", "ssh://", "npipe://", "http://", "https://")
_LOCAL_SCHEMES = ("unix://", "npipe://")
_DEFAULT_HOST = "npipe:////./pipe/docker_engine" if os.name == "nt" else "unix:///var/run/docker.sock"
_LABEL = "io.github.aml-images.inspection"
# The engine gives the containers of a build no label and no name of ours. A host entry is the one thing
# of a build request that they carry and that reaches neither the image nor the cache.
_BUILD_MARK = ".aml-images-build.invalid"
_MARK_ADDRESS = "127.0.0.1"
# Source: https://docs.docker.com/engine/storage/containerd/
_IMAGE_STORE = ["driver-type", "io.containerd.snapshotter.v1"]
_NEW_PINGS = 3
_ARCHIVE_HEADER_BYTES = 256 * 1024
"""More than what stands before a file in an archive: its name, and extended attributes of 64 KiB."""


class DockerEngine(Engine):
    """An `Engine` on a Docker daemon.

    Args:
        host: URL of the engine: `unix://`, `tcp://`, `ssh://` (needs `docker[ssh]`) or, on Windows, `npipe://`.
            None takes DOCKER_HOST, else this machine's socket.
        free_space_path: A folder on the disk where the engine keeps its images. None asks an engine
            on this machine; the disk of an engine elsewhere can't be measured.
        min_free_bytes: Builds do not start with less free space than this.
        answer_seconds: Longest wait for a single answer.
        transfer_seconds: Longest time for one push or pull. The engine repeats failed requests automatically.
        leftover_seconds: A dead build container older than this was left behind; a younger one may
            belong to a build that is just storing its result.

    Raises:
        BadInput: The URL is none of an engine.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        free_space_path: Path | None = None,
        min_free_bytes: int = 2_000_000_000,
        answer_seconds: float = 60,
        transfer_seconds: float = 1800,
        leftover_seconds: float = 3600,
    ) -> None:
        if host is not None and not host.startswith(_SCHEMES):
            raise BadInput(
                f"{host!r} is not the URL of an engine",
                where="docker_host",
                hint="Write unix:///var/run/docker.sock, tcp://HOST:2376, ssh://USER@HOST or npipe:////./pipe/docker_engine.",
            )
        self._host = host
        self._free_space_path = free_space_path
        self._min_free_bytes = min_free_bytes
        self._answer_seconds = answer_seconds
        self._transfer_seconds = transfer_seconds
        self._leftover_seconds = leftover_seconds

    @property
    def where(self) -> str:
        """Where the engine is, for messages."""
        return self._host or os.environ.get("DOCKER_HOST") or _DEFAULT_HOST

    @override
    def info(self) -> EngineInfo:
        with self._client() as client:
            version, info = client.version(), client.info()
            mtu = None if version["Os"] == "windows" else _bridge_mtu(client)
        space = self._space(info)
        operating_system: OperatingSystem = "windows" if version["Os"] == "windows" else "linux"
        return EngineInfo(
            version=version["Version"],
            os=operating_system,
            architecture=version["Arch"],
            os_version=_os_version(info, operating_system),
            free_bytes=space[1] if space else None,
            network_mtu=mtu,
        )

    @property
    def has_image_store(self) -> bool:
        """Whether it keeps its images in the image store of containerd."""
        return _IMAGE_STORE in (self._description.get("DriverStatus") or ())

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        """What the engine says of itself. A process that builds asks for it once: it takes a busy engine a while."""
        with self._client() as client:
            return dict(client.info())

    @override
    def build(self, request: BuildRequest, log: LogLine) -> BuiltImage:
        with self._client() as client:
            info = client.info()
        self.require_space(request.tag)
        # A mark needs a hosts file, which the engine writes for Linux containers only.
        extra_hosts = {_build_mark(request.tag): _MARK_ADDRESS} if info["OSType"] == "linux" else None
        try:
            with self._client(request.timeout_seconds) as client, request.context.open("rb") as context:
                client.sign_in(request.logins)
                image_id = follow(
                    client,
                    lambda: client.build(
                        fileobj=context,
                        custom_context=True,
                        dockerfile=request.dockerfile,
                        tag=request.tag,
                        buildargs=dict(request.build_args),
                        network_mode=request.network,
                        target=request.target,
                        platform=request.platform,
                        extra_hosts=extra_hosts,
                        rm=True,
                        forcerm=True,
                        nocache=request.no_cache,
                        decode=True,
                    ),
                    seconds=request.timeout_seconds,
                    log=log,
                    result_of=_built_id,
                    secrets=tuple(login.password for login in request.logins.values()),
                )
        except StreamFault as fault:
            raise build_fault(
                fault, request, engine=self.where, answers=self.answers, space=lambda: self._space(info)
            ) from None
        return self._inspect_built(image_id, request)

    @override
    def push(self, reference: str, log: LogLine, login: RegistryLogin | None = None) -> str:
        wanted = Reference.parse(reference)
        digest = self._transfer(
            "push",
            wanted,
            log,
            login,
            lambda client, auth: client.push(
                wanted.name, tag=wanted.version, stream=True, decode=True, auth_config=auth
            ),
            _pushed_digest,
        )
        with self._client() as client:
            known = _digests(client.image(reference), wanted)
        if digest not in known:
            raise Unreachable(
                f"the engine pushed {digest} but holds the image as {', '.join(known) or 'nothing'}",
                where=reference,
                hint="Something else pushed or removed the same tag at the same time: repeat the push.",
            )
        return digest

    @override
    def pull(self, reference: str, log: LogLine, login: RegistryLogin | None = None, *, platform: str = "") -> str:
        wanted = Reference.parse(reference)
        repeated_after(
            PULLED_AGAIN_AFTER_SECONDS,
            lambda: self._pull(wanted, log, login, platform),
            log,
            refused=ContentRemoved,
            doing="pulling",
        )
        with self._client() as client:
            return str(client.image(_pinned(wanted))["Id"])

    def _pull(self, wanted: Reference, log: LogLine, login: RegistryLogin | None, platform: str) -> None:
        self._transfer(
            "pull",
            wanted,
            log,
            login,
            lambda client, auth: client.pull(
                wanted.name,
                tag=wanted.version,
                stream=True,
                decode=True,
                auth_config=auth,
                platform=platform or None,
            ),
            _pulled_digest,
        )

    @override
    def local_digest(self, reference: str) -> str | None:
        wanted = Reference.parse(reference)
        with self._client() as client:
            image = client.find_image(_pinned(wanted))
        digests = _digests(image, wanted) if image else []
        if wanted.digest:
            return wanted.digest if wanted.digest in digests else None
        return digests[0] if digests else None

    @override
    def keep_as_cache(self, reference: str, cache_name: str) -> None:
        cache = Reference.parse(cache_name)
        with self._client() as client:
            image = client.find_image(reference)
            if image is None:
                raise self._absent(reference)
            before = client.find_image(cache_name)
            client.tag(reference, cache.name, cache.version)
            _remove(client, reference)
            # The one before lost its only tag just now; while it has others, it is still in use.
            if before and before["Id"] != image["Id"] and len(before["RepoTags"]) == 1:
                _remove(client, before["Id"])

    def forget(self, reference: str) -> None:
        """See `Engine.forget`. On a Windows engine build containers look like a user's and are kept."""
        with self._client() as client:
            for container in _containers(client, "created", "restarting", "running", "paused", "exited", "dead"):
                if _build_mark(reference) in _marks(container):
                    _remove_container(client, container["Id"], force=True)
            _remove(client, reference)

    def paths_exist(self, reference: str, paths: tuple[str, ...]) -> dict[str, bool]:
        """See `Engine.paths_exist`.

        Raises:
            BadInput: The engine has no such image.
        """
        import docker.errors

        with self._client() as client:
            try:
                # The container is never started; an image without a command only wants any to be named.
                labels = {_LABEL: _build_mark(reference)}
                container = client.create_container(reference, command=["true"], labels=labels)["Id"]
            except docker.errors.ImageNotFound:
                raise self._absent(reference) from None
            try:
                return {path: _has_path(client, container, path) for path in paths}
            finally:
                client.remove_container(container, v=True, force=True)

    def read_file(self, container: str, path: str, longest: int) -> bytes:
        """A file of a container; empty when there is none, or something else than a file.

        What is longer than the limit is neither held nor transferred whole.

        Args:
            container: The engine's id of the container.
            path: Absolute path in it.
            longest: Bytes that the file may have.

        Raises:
            TooLong: It has more.
            Unreachable: The engine does not answer, or refuses.
        """
        import docker.errors

        with self._client() as client:
            try:
                stream, described = client.get_archive(container, path)
                if described and described.get("size", 0) > longest:
                    raise TooLong(longest)
                archive = beginning(stream, _ARCHIVE_HEADER_BYTES + longest)
            except docker.errors.NotFound:
                return b""
            finally:
                client.end_response()
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            member = files.next()
            if member is None or not member.isfile():
                return b""
            if member.size > longest:
                raise TooLong(longest)
            file = files.extractfile(member)
            return file.read() if file else b""

    def sweep_build_containers(self) -> int:
        """See `Engine.sweep_build_containers`.

        Only containers that this class caused are removed, and only when they are long dead. On a Windows
        engine build containers cannot be distinguished from a user's and are kept.
        """
        now = datetime.datetime.now(datetime.UTC)
        removed = 0
        with self._client() as client:
            for container in _containers(client, "created", "exited", "dead"):
                if _marks(container) and _age(container, now) >= self._leftover_seconds:
                    removed += _remove_container(client, container["Id"])
        return removed

    @contextlib.contextmanager
    def _client(self, timeout_seconds: float | None = None) -> Iterator[EngineClient]:
        """A client of its own for each operation: they are not made for several threads at once."""
        with engine_errors(self.where):
            from aml_images_dagster.engine.client import connect

            with contextlib.closing(connect(self._host, timeout_seconds or self._answer_seconds)) as client:
                yield client

    def _transfer(
        self,
        verb: str,
        wanted: Reference,
        log: LogLine,
        login: RegistryLogin | None,
        start: Any,
        result_of: Any,
    ) -> str:
        auth = {"username": login.username, "password": login.password} if login else None
        try:
            with self._client(self._transfer_seconds) as client:
                return follow(
                    client,
                    lambda: start(client, auth),
                    seconds=self._transfer_seconds,
                    log=log,
                    result_of=result_of,
                    secrets=(login.password,) if login else (),
                )
        except StreamFault as fault:
            raise transfer_fault(fault, verb, str(wanted), wanted.registry) from None

    def _inspect_built(self, image_id: str, request: BuildRequest) -> BuiltImage:
        with self._client() as client:
            image = client.image(image_id)
            built = BuiltImage(image["Id"], image["Size"], image["Os"], image["Architecture"])
            got = f"{built.os}/{built.architecture}"
            if got != "/".join(request.platform.split("/")[:2]):
                _remove(client, request.tag)
                raise BuildFailed(
                    f"the image was built for {got}, not for {request.platform}: the base has no such variant",
                    where=request.tag,
                    hint="Build it from a base for that platform, or change the platform.",
                )
        return built

    def answers(self) -> bool:
        """Whether the engine answers, and continues to: one that is shutting down still does for a moment."""
        for attempt in range(_NEW_PINGS):
            if attempt:
                time.sleep(1)
            try:
                with self._client(5) as client:
                    client.ping()
            except Unreachable:
                return False
        return True

    def _space(self, info: Mapping[str, Any]) -> tuple[str, int] | None:
        path = self._free_space_path
        if path is None and self.where.startswith(_LOCAL_SCHEMES):
            path = Path(info.get("DockerRootDir") or "")
        # An engine whose socket is mounted into our container has its folder elsewhere.
        if path is None or not path.is_absolute() or not path.is_dir():
            return None
        return str(path), shutil.disk_usage(path).free

    def free_space(self) -> tuple[str, int] | None:
        """The folder where the engine keeps its images and its free bytes; None when that is unknown."""
        return self._space(self._description)

    def require_space(self, tag: str) -> None:
        """See to it that a build has the space that it needs.

        Raises:
            BuildFailed: The disk is nearly full.
        """
        space = self.free_space()
        if space and space[1] < self._min_free_bytes:
            raise BuildFailed(
                f"the engine's disk is nearly full: {in_gigabytes(space[1])} are free in {space[0]}, "
                f"a build needs {in_gigabytes(self._min_free_bytes)}",
                where=tag,
                hint="Free space, e.g. with `docker system prune`, or lower min_free_gb.",
            )

    def _absent(self, reference: str) -> BadInput:
        return BadInput("the engine has no such image", where=reference, hint="Build or pull it first.")


def _built_id(event: Event) -> str | None:
    return (event.get("aux") or {}).get("ID")


def _pushed_digest(event: Event) -> str | None:
    """With the image store of containerd a push has no `aux`; the digest stands in its last status line."""
    found = re.fullmatch(r".*: digest: (sha256:[0-9a-f]{64}) size: \d+", str(event.get("status", "")))
    return found[1] if found else (event.get("aux") or {}).get("Digest")


def _pulled_digest(event: Event) -> str | None:
    """A pull has no `aux`; the digest stands in a status line."""
    status = str(event.get("status", ""))
    return status.removeprefix("Digest: ") if status.startswith("Digest: ") else None


def _pinned(reference: Reference) -> str:
    """The name to inspect: engines keep no tag beside a digest."""
    return f"{reference.name}@{reference.digest}" if reference.digest else f"{reference.name}:{reference.version}"


def _digests(image: Mapping[str, Any], wanted: Reference) -> list[str]:
    """The digests under which an image is known in the repository of `wanted`."""
    known = [Reference.parse(text) for text in image["RepoDigests"] or ()]
    return [reference.digest for reference in known if reference.name == wanted.name]


def _remove(client: EngineClient, reference: str) -> None:
    import docker.errors

    try:
        client.remove_image(reference)
    except docker.errors.APIError as error:
        # Absent, or in use by a container: both are as they should be.
        if error.status_code not in (404, 409):
            raise


def _has_path(client: EngineClient, container: str, path: str) -> bool:
    """Begin to download the path and stop at once: only the answer's status is of interest."""
    import docker.errors

    try:
        client.get_archive(container, path)
    except docker.errors.NotFound:
        return False
    except docker.errors.APIError as error:
        if "not a directory" in str(error.explanation):
            return False
        raise
    finally:
        client.end_response()
    return True


def _build_mark(tag: str) -> str:
    """The marks of containers that build or inspect an image of this tag."""
    return hashlib.sha256(tag.encode()).hexdigest()[:16] + _BUILD_MARK


def _marks(container: Mapping[str, Any]) -> list[str]:
    """The marks of a container that this class has caused; none of any other container."""
    label = (container["Config"]["Labels"] or {}).get(_LABEL)
    hosts = [str(entry).partition(":")[0] for entry in container["HostConfig"]["ExtraHosts"] or ()]
    return [*filter(None, [label]), *(host for host in hosts if host.endswith(_BUILD_MARK))]


def _containers(client: EngineClient, *statuses: str) -> Iterator[Mapping[str, Any]]:
    """Containers with one of these statuses, inspected."""
    import docker.errors

    for listed in client.containers(all=True, filters={"status": list(statuses)}):
        with contextlib.suppress(docker.errors.NotFound):
            yield client.inspect_container(listed["Id"])


def _remove_container(client: EngineClient, container: str, *, force: bool = False) -> bool:
    """Remove a container; False if another process was faster, or it runs again."""
    import docker.errors

    try:
        client.remove_container(container, v=True, force=force)
    except docker.errors.APIError as error:
        if error.status_code not in (404, 409):
            raise
        return False
    return True


def _age(container: Mapping[str, Any], now: datetime.datetime) -> float:
    """Seconds since the container ended, or since it was made if it never ran."""
    finished = str(container["State"].get("FinishedAt") or "")
    since = container["Created"] if finished.startswith("0001") or not finished else finished
    return (now - datetime.datetime.fromisoformat(since[:19] + "+00:00")).total_seconds()


def _bridge_mtu(client: EngineClient) -> int | None:
    import docker.errors

    try:
        options = client.inspect_network("bridge").get("Options") or {}
    except docker.errors.NotFound:
        return None
    mtu = str(options.get("com.docker.network.driver.mtu", ""))
    return int(mtu) if mtu.isdigit() else None


def _os_version(info: Mapping[str, Any], operating_system: OperatingSystem) -> str:
    """For Windows the build with its revision, which only the name of the system has."""
    name = str(info.get("OperatingSystem") or "")
    if operating_system == "linux":
        return name
    build = re.search(r"OS Build (\d+(?:\.\d+)?)", name)
    return f"10.0.{build.group(1)}" if build else str(info.get("OSVersion") or info.get("KernelVersion") or "")
