"""The program buildx: where it is, what it says of a builder, and one call from its start to its end.

It is a plugin of the docker command, and a program of its own as well. Source of its commands and variables:
https://docs.docker.com/reference/cli/docker/buildx/ and https://docs.docker.com/build/building/variables/.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.messages import plain_reason
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aml_images_dagster.engine.buildkit.progress import Progress

# Source: https://github.com/docker/cli, cli-plugins/manager/manager_unix.go
_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
_OLDEST = (0, 13)
"""The first with progress as JSON."""
_ANSWER_SECONDS = 60
_versions: dict[tuple[Path, int, int, int], tuple[int, int]] = {}
"""Of programs that this process has asked, by their files. Steps that are forks of it need not ask again."""
# Everything else in the environment, secrets among it, is not for a program of somebody else.
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|TMPDIR|LANG|XDG_.*|SSH_AUTH_SOCK|(?i:https?_proxy|no_proxy|all_proxy)|SSL_CERT_(FILE|DIR)"
    r"|DOCKER_(TLS|TLS_VERIFY|CERT_PATH|API_VERSION)|KUBECONFIG|BUILDKIT_.*|SYSTEMROOT"
)
_LOOK_SECONDS = 1.0
_END_SECONDS = 10.0
_PIECE_BYTES = 65536

Ending = Literal["done", "failed", "killed", "deadline", "push deadline"]


@dataclass(frozen=True, slots=True)
class BuilderInfo:
    """What buildx says of a builder.

    Attributes:
        driver: `docker` for the BuildKit of an engine, else `remote`, `kubernetes` or `docker-container`.
        has_image_store: Whether an engine keeps its images in containerd's store. Other builders keep none.
        platforms: What it builds for, e.g. `linux/amd64`, its own first.
        nodes: Name, endpoint and version of its machines, as buildx prints them.
    """

    driver: str
    has_image_store: bool
    platforms: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def versions(self) -> tuple[str, ...]:
        """Of the BuildKit of each machine, e.g. `0.20.0`, sorted."""
        return tuple(sorted(node.partition(": v")[2] for node in self.nodes if "BuildKit" in node))


class Buildx:
    """Calls buildx for one builder.

    Args:
        docker_host: URL of the engine; None takes DOCKER_HOST, else this machine's socket.
        builder: Name of a builder of the user's; empty: the BuildKit of that engine.
    """

    def __init__(self, docker_host: str | None = None, builder: str = "") -> None:
        self._docker_host = docker_host
        self.builder = builder

    @property
    def where(self) -> str:
        """The builder, for messages."""
        return f"builder {self.builder}" if self.builder else self._docker_host or os.environ.get("DOCKER_HOST") or ""

    @property
    def program(self) -> Path:
        """The program.

        Raises:
            BadInput: There is none.
        """
        configured = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser() / "cli-plugins"
        for folder in (configured, *map(Path, _PLUGIN_FOLDERS)):
            if os.access(folder / "docker-buildx", os.X_OK):
                return folder / "docker-buildx"
        if on_path := shutil.which("docker-buildx"):
            return Path(on_path)
        raise BadInput(
            "buildx is not installed, which builds Linux images",
            where=str(configured),
            hint="Install the package docker-buildx (Debian 13, Ubuntu) or docker-buildx-plugin (Docker's own); on "
            "Debian 12 `scripts/services` brings it.",
        )

    def version(self) -> tuple[int, int]:
        """Its version, e.g. (0, 13).

        Raises:
            BadInput: It is too old, or something else.
        """
        program = self.program
        file = program.stat()
        identity = (program, file.st_ino, file.st_size, file.st_mtime_ns)
        if identity not in _versions:
            _versions[identity] = self._ask_version()
        return _versions[identity]

    def _ask_version(self) -> tuple[int, int]:
        said = self._ask("version")
        found = re.search(r"\bv?(\d+)\.(\d+)\.\d+", said)
        if found is None:
            raise BadInput(f"buildx does not say its version: {printable(said)[:200]!r}", where=str(self.program))
        version = (int(found[1]), int(found[2]))
        if version < _OLDEST:
            raise BadInput(
                f"buildx {found[0]} is too old",
                where=str(self.program),
                hint="Install {}.{} or newer.".format(*_OLDEST),
            )
        return version

    def inspect(self) -> BuilderInfo:
        """Ask the builder what it is; one that is not running is started.

        Raises:
            BadInput: There is no such builder.
            Unreachable: It does not answer.
        """
        return read_inspection(self._ask("inspect", "--bootstrap", *([self.builder] if self.builder else [])))

    def environment(self, folder: Path, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a call.

        Args:
            folder: The call's own configuration, so that nothing of the user's is read: neither logins nor what
                `docker buildx use` has chosen.
            given: Further variables.
        """
        environment = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        user = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser()
        # buildx leaves files of its own in the temporary folder.
        environment |= {"DOCKER_CONFIG": str(folder), "BUILDX_CONFIG": str(folder / "buildx"), "TMPDIR": str(folder)}
        if self.builder:
            environment["BUILDX_CONFIG"] = os.environ.get("BUILDX_CONFIG") or str(user / "buildx")
            if (user / "contexts").is_dir() and not (folder / "contexts").exists():  # the engines of builders
                (folder / "contexts").symlink_to(user / "contexts")
        host = self._docker_host or os.environ.get("DOCKER_HOST")
        if host:
            environment["DOCKER_HOST"] = host
        if "DOCKER_TLS_VERIFY" in environment:
            environment.setdefault("DOCKER_CERT_PATH", str(user))
        return environment | {
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
            "BUILDX_METADATA_PROVENANCE": "disabled",
            "DOCKER_CLI_HINTS": "false",
            **(given or {}),
        }

    def command(self, *arguments: str) -> list[str]:
        """The command line of a call that builds."""
        return [str(self.program), "build", *([f"--builder={self.builder}"] if self.builder else []), *arguments]

    def _ask(self, *arguments: str) -> str:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="aml-images-buildx-") as folder:
            command: Sequence[str] = [str(self.program), *arguments]
            try:
                done = subprocess.run(
                    command,
                    env=self.environment(Path(folder)),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_ANSWER_SECONDS,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise Unreachable(f"buildx does not answer: {plain_reason(error)}", where=self.where) from None
        if done.returncode:
            raise self._refusal(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def _refusal(self, said: str) -> BadInput | Unreachable:
        if f'no builder "{self.builder}" found' in said:
            return BadInput(
                f"buildx has no builder {self.builder!r}",
                where="builder",
                hint="`docker buildx ls` shows those of this user; `docker buildx create` makes one.",
            )
        return Unreachable(
            f"the builder does not answer: {printable(said.removeprefix('ERROR: '))}",
            where=self.where,
            hint="Start it, or name another one (docker_host, DOCKER_HOST, builder); may this user reach it?",
        )


def read_inspection(text: str) -> BuilderInfo:
    """What `buildx inspect` has printed, read.

    Raises:
        Unreachable: No machine of the builder runs.
    """
    fields = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in text.splitlines())]
    values = dict(reversed(fields))
    if "running" not in (value for name, value in fields if name == "Status"):
        raise Unreachable(
            f"the builder does not answer: {printable(values.get('Error', '') or values.get('Status', 'no machine'))}",
            where=f"builder {values.get('Name', '')}",
            hint="Start it, or name another one (docker_host, DOCKER_HOST, builder); may this user reach it?",
        )
    shown = ("Name", "Endpoint", "BuildKit version", "BuildKit")
    return BuilderInfo(
        driver=values.get("Driver", ""),
        has_image_store="org.mobyproject.buildkit.worker.containerd." in text,
        platforms=tuple(
            dict.fromkeys(
                platform
                for name, value in fields
                if name == "Platforms"
                for each in value.split(",")
                if (platform := each.strip(" *"))
            )
        ),
        nodes=tuple(f"{name}: {value}" for name, value in fields if name in shown),
    )


def follow_call(
    command: Sequence[str],
    environment: Mapping[str, str],
    progress: Progress,
    *,
    seconds: float,
    push_seconds: float,
    still_wanted: Callable[[], None],
) -> Ending:
    """Run buildx and pass on its progress.

    A builder ends what it does for a client that goes away, whatever ended the client: the engine's BuildKit kills the
    processes of a RUN within half a second.

    Args:
        command: The command line.
        environment: All its variables.
        progress: Receives what it writes.
        seconds: How long it may take.
        push_seconds: How long its push may take. A registry that never answers would hold it for ever.
        still_wanted: Asked again and again; raises when the result is not wanted any more.
    """
    process = subprocess.Popen(
        [*_ends_with_us(), *command],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C is for us, and we end it
    )
    deadline = time.monotonic() + seconds
    try:
        with cast("IO[bytes]", process.stderr) as stderr, selectors.DefaultSelector() as selector:
            selector.register(stderr, selectors.EVENT_READ)
            looked = time.monotonic()
            while True:
                if selector.select(_LOOK_SECONDS):
                    piece = os.read(stderr.fileno(), _PIECE_BYTES)
                    if not piece:
                        break
                    progress.take(piece)
                now = time.monotonic()
                if now >= deadline:
                    return "deadline"
                pushing = None if progress.is_pushed else progress.pushing_since
                if pushing is not None and now >= pushing + push_seconds:
                    return "push deadline"
                if now >= looked + _LOOK_SECONDS:
                    looked = now
                    still_wanted()
        code = process.wait(_END_SECONDS)
        return "killed" if code == -signal.SIGKILL else "failed" if code else "done"
    finally:
        _end(process)
        progress.end()


def _ends_with_us() -> list[str]:
    """A command in front of another that ends it when the thread that started it ends, killed or not.

    Source: https://man7.org/linux/man-pages/man1/setpriv.1.html, of the package util-linux.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, how)
            process.wait(_END_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
