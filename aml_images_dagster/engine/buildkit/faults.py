"""What a failure of a build with BuildKit means, in the words of buildx 0.13 to 0.29 and engines 20.10 to 28."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.faults import EMULATION_HINT, build_fault, is_disk_full, transfer_fault
from aml_images_dagster.engine.interface import DockerfileFailed
from aml_images_dagster.engine.stream import StreamFault
from aml_images_dagster.errors import BuildFailed, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aml_images_dagster.engine.buildkit.buildx import Ending
    from aml_images_dagster.engine.buildkit.progress import Progress
    from aml_images_dagster.engine.interface import BuildRequest

_LOST = re.compile(
    r"error reading from server|Cannot connect to the Docker daemon|transport is closing|error during connect"
    r"|connection error: desc|code = Unavailable|no active session|failed to list workers|failed to receive status",
    re.IGNORECASE,
)
_PULL = re.compile(
    r"failed to (resolve|load|fetch|authorize|pull)|pull access denied|no match for platform", re.IGNORECASE
)
_AUTHORIZATION = re.compile(
    r"\b40[13]\b|unauthorized|forbidden|denied|authentication required|no basic auth|insufficient_scope", re.IGNORECASE
)
_NOT_A_PROGRAM = re.compile(r"exec format error", re.IGNORECASE)
# Of several platforms BuildKit names that of each instruction: `[linux/arm64 2/3] RUN …`, `[linux/amd64->arm64 2/3]`.
_STAGE_PLATFORM = re.compile(r"\[(\w+/[\w/]+)(?:->\S*)? ")


class BuilderLost(Unreachable):
    """What builds went away, or the connection to it."""


class PushFailed(Unreachable):
    """A registry has not taken the image, for a reason that may pass: too many requests, an error of its own."""


def fault_of(
    ending: Ending,
    progress: Progress,
    request: BuildRequest,
    *,
    where: str,
    platforms: Callable[[], Collection[str]],
    push_seconds: float,
    answers: Callable[[], bool],
    space: Callable[[], tuple[str, int] | None],
) -> BuildFailed | Unreachable:
    """Distinguish a failed build from a lost builder and from a registry that refuses.

    Args:
        ending: How the call ended; not `done`.
        progress: What buildx has said.
        request: What was being built.
        where: The builder, for messages.
        platforms: What the builder runs programs of.
        push_seconds: How long the push was allowed to take.
        answers: Whether the builder still answers.
        space: The folder where an engine keeps its images and its free bytes; None when that is unknown.
    """
    registry = Reference.parse(request.tag).registry
    said = progress.error or "buildx ended without a word"
    if ending == "push deadline":
        late = StreamFault("deadline", f"not finished after {push_seconds:g} s", progress.tail)
        return transfer_fault(late, "push", request.tag, registry)
    if ending == "killed":
        return BuildFailed(
            "buildx was killed by SIGKILL while it built",
            where=request.tag,
            hint="Most likely this machine ran out of memory: see `dmesg`, build fewer images at once (parallel).",
            log=progress.tail,
        )
    if ending == "deadline":
        fault = StreamFault("deadline", "", progress.tail)
    elif _LOST.search(said) or ((not progress.error or "context canceled" in said) and not answers()):
        fault = StreamFault("broken", said, progress.tail)
    elif progress.pushing_since is not None and not is_disk_full(said):
        return _push_fault(said, progress, request.tag, registry)
    elif _PULL.search(said) and progress.exit_code is None and not is_disk_full(said):
        hint = transfer_fault(StreamFault("reported", said, ""), "pull", request.tag, "its registry").hint
        return DockerfileFailed(
            f"the build failed: {said}", where=request.tag, hint=hint, log=progress.tail, line=_line(progress, request)
        )
    elif foreign := _not_emulated(progress, request, platforms):
        return DockerfileFailed(
            f"RUN cannot run for {foreign}: the builder does not emulate it",
            where=request.tag,
            hint=f"{EMULATION_HINT} Or name a builder that has a machine for it (setting builder).",
            log=progress.tail,
            line=_line(progress, request),
        )
    else:
        fault = StreamFault("reported", said, f"{progress.failed_output}\n{progress.tail}", progress.exit_code)
    found = build_fault(fault, request, engine=where, answers=answers, space=space)
    if isinstance(found, DockerfileFailed):
        line = _line(progress, request)
        return DockerfileFailed(found.what, where=found.where, hint=found.hint, log=progress.tail, line=line)
    if isinstance(found, BuildFailed):
        return BuildFailed(found.what, where=found.where, hint=found.hint, log=progress.tail)
    return BuilderLost(found.what, where=found.where, hint=found.hint)


def _not_emulated(progress: Progress, request: BuildRequest, platforms: Callable[[], Collection[str]]) -> str:
    """The platform whose programs the kernel of the builder refuses; empty when that is not why a build has failed."""
    if not _NOT_A_PROGRAM.search(progress.failed_output):
        return ""
    named = _STAGE_PLATFORM.match(progress.failed_name)
    platform = named[1] if named else request.platform
    return "" if platform in platforms() else platform


def _line(progress: Progress, request: BuildRequest) -> int | None:
    """Where the Dockerfile failed: buildx quotes it below its name and line. What RUN prints has a number in front."""
    found = re.findall(rf"^{re.escape(request.dockerfile)}:(\d{{1,9}})$", progress.tail, re.MULTILINE)
    return int(found[-1]) if found else None


def _push_fault(said: str, progress: Progress, tag: str, registry: str) -> Unreachable:
    fault = transfer_fault(StreamFault("reported", said, progress.tail), "push", tag, registry)
    if _AUTHORIZATION.search(said):
        return Unreachable(
            fault.what, where=tag, hint=f"Sign in: give a login for {registry} that may push this repository."
        )
    return PushFailed(fault.what, where=fault.where, hint=fault.hint)
