"""What a failure of the engine means, and what to do about it; work that is done again when the engine is back."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, TypeVar

from aml_images_dagster.engine.interface import DockerfileFailed, TooManyRequests
from aml_images_dagster.engine.stream import StreamFault, redact
from aml_images_dagster.errors import BuildFailed, Unreachable
from aml_images_dagster.messages import plain_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aml_images_dagster.engine.interface import BuildRequest, LogLine

EMULATION_HINT = "Install QEMU where the engine runs: `apt-get install qemu-user-static binfmt-support`."
"""How a machine learns to run programs of other platforms."""

KILLED = 137
"""Exit code of a process that got SIGKILL: out of memory, or the engine was stopped."""

_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded|not enough space on the disk", re.IGNORECASE)
_NEARLY_NOTHING = 50_000_000
T = TypeVar("T")

# Said by containerd of its own store; a registry that lacks content says it in other words.
_CONTENT_REMOVED = re.compile(r"content digest sha256:[0-9a-f]{64}: not found")

PUSHED_AGAIN_AFTER_SECONDS = (1.0, 4.0, 15.0, 60.0)
PULLED_AGAIN_AFTER_SECONDS = (0.5, 2.0, 5.0)


class ContentRemoved(Unreachable):
    """The engine has removed what a pull had just found in its store.

    An image that was removed leaves its content to containerd's garbage collector, which comes some time later: a pull
    of the same digest may meet it.
    """


def build_fault(
    fault: StreamFault,
    request: BuildRequest,
    *,
    engine: str,
    answers: Callable[[], bool],
    space: Callable[[], tuple[str, int] | None],
) -> BuildFailed | Unreachable:
    """Distinguish a failed build from a lost engine.

    Args:
        fault: How the stream ended.
        request: What was being built.
        engine: Where the engine is, for messages.
        answers: Whether the engine still answers.
        space: The folder where the engine keeps its images and its free bytes; None when that is unknown.
    """
    where = request.tag
    if fault.kind == "deadline":
        return BuildFailed(
            f"the build was stopped at its deadline of {request.timeout_seconds:g} s",
            where=where,
            hint="See in the log what it waits for, or give it more time (build_timeout_minutes).",
            log=fault.tail,
        )
    if (fault.kind in ("broken", "no result") or fault.code == KILLED) and not answers():
        return Unreachable(
            f"the engine was lost while it built: {fault.message}",
            where=engine,
            hint="Start the engine again (its own log says why it stopped) and repeat the build.",
        )
    measured = space()
    full = is_disk_full(f"{fault.message}\n{fault.tail}") or (measured and measured[1] < _NEARLY_NOTHING)
    if full:
        left = f": {in_gigabytes(measured[1])} are free in {measured[0]}" if measured else ""
        return BuildFailed(
            f"the engine's disk is full{left} ({fault.message})",
            where=where,
            hint="Free space, e.g. with `docker system prune`, and repeat the build.",
            log=fault.tail,
        )
    if fault.kind in ("broken", "no result"):
        return Unreachable(
            f"the connection to the engine broke while it built: {fault.message}",
            where=engine,
            hint="The engine answers again: repeat the build.",
        )
    hint = "The end of the log shows the failing instruction."
    if fault.code == KILLED:
        hint = "Exit code 137 means killed: most likely the instruction ran out of memory."
    return DockerfileFailed(f"the build failed: {fault.message}", where=where, hint=hint, log=fault.tail)


def is_disk_full(said: str) -> bool:
    """Whether a message of an engine or of a program in a container speaks of a full disk."""
    return bool(_DISK_FULL.search(said))


def transfer_fault(fault: StreamFault, verb: str, reference: str, registry: str) -> Unreachable:
    """The error of a failed push or pull.

    Args:
        fault: How the stream ended.
        verb: `push` or `pull`.
        reference: What was to be transferred.
        registry: Host of the registry.
    """
    said = fault.message.lower()
    if fault.kind in ("broken", "no result"):
        what = f"the connection to the engine broke during a {verb}: {fault.message}"
        return Unreachable(what, where=reference, hint="Is the engine running? Repeat it then.")
    if fault.kind == "deadline":
        hint = f"Does {registry} answer, and is the connection fast enough for the size of the image?"
    elif any(word in said for word in ("toomanyrequests", "too many requests")):
        return TooManyRequests(
            f"the engine could not {verb} the image: {fault.message}",
            where=reference,
            hint=f"{registry} has too many requests: wait some minutes, or run fewer builds at once.",
        )
    elif any(word in said for word in ("unauthorized", "denied", "authentication required", "no basic auth")):
        hint = f"Sign in: give a login for {registry} that may {verb} this repository."
    elif verb == "pull" and _CONTENT_REMOVED.search(said):
        what = f"the engine removed content of the image while it pulled it: {fault.message}"
        return ContentRemoved(what, where=reference, hint="Repeat it.")
    elif "server gave http response to https client" in said:
        hint = f"{registry} speaks plain HTTP: add it to the engine's insecure-registries, or give it a certificate."
    elif "x509" in said or "certificate" in said:
        hint = f"The engine does not trust the certificate of {registry}: install its CA on the engine's machine."
    elif "does not exist locally" in said or "tag does not exist" in said:
        hint = "Build or pull it first."
    elif any(word in said for word in ("manifest unknown", "not found", "does not exist")):
        hint = f"{registry} has no such image, or hides it from this login."
    else:
        hint = f"Is {registry} running, and can the engine's machine reach it?"
    return Unreachable(f"the engine could not {verb} the image: {fault.message}", where=reference, hint=hint)


@contextlib.contextmanager
def engine_errors(engine: str) -> Iterator[None]:
    """Turn what docker-py raises outside of streams into `Unreachable`."""
    import docker.errors
    import requests
    import urllib3.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        raise Unreachable(
            f"the engine refuses: {redact(str(error.explanation or error))}", where=engine, hint="See its own log."
        ) from None
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Unreachable(
            f"the Docker engine does not answer: {redact(plain_reason(error))}",
            where=engine,
            hint="Start it, or name another one (docker_host, DOCKER_HOST); may this user open its socket?",
        ) from None


def in_gigabytes(size: int) -> str:
    """A size in bytes for people, in units of 10^9 bytes."""
    return f"{size / 1e9:.1f} GB"


def once_more_when_back(
    work: Callable[[], T],
    log: LogLine,
    *,
    ask: Callable[[], object],
    tidy: Callable[[], None],
    wait_seconds: float,
    lost: type[Unreachable] = Unreachable,
) -> T:
    """Do work; if the engine was lost meanwhile, wait until it answers and do it once more.

    Args:
        work: Raises `lost` if the engine was lost.
        log: Receives what happens.
        ask: Raises `Unreachable` while the engine is away.
        tidy: Removes what the first attempt has left.
        wait_seconds: How long to wait; then the first error is raised.
        lost: The error that says that the engine was lost.
    """
    try:
        return work()
    except lost as error:
        log(f"{error}\nwaiting up to {wait_seconds:g} s for the engine to come back")
        until = time.monotonic() + wait_seconds
        while True:
            try:
                ask()
                break
            except Unreachable:
                if time.monotonic() > until:
                    raise error from None
                time.sleep(1)
        log("the engine is back: building once more")
        tidy()
        return work()


def repeated_after(
    pauses: Iterable[float],
    work: Callable[[], T],
    log: LogLine,
    *,
    refused: type[Unreachable],
    doing: str,
    wait: Callable[[float], object] = time.sleep,
) -> T:
    """Do work; if it is refused for the moment, pause and do it again, and the last time let its error go.

    Args:
        pauses: Before each further attempt, in seconds.
        work: Raises `refused` if another attempt may succeed.
        log: Receives what happens.
        refused: That error.
        doing: The work in one word, e.g. `pushing`.
        wait: Waits for some seconds.
    """
    for pause in pauses:
        try:
            return work()
        except refused as error:
            log(f"{error}\n{doing} again in {pause:g} s")
            wait(pause)
    return work()
