"""What a Dockerfile copies out of the build context.

Rules for sources: https://docs.docker.com/reference/dockerfile/#copy and #add; patterns are those of Go's
filepath.Match, relative to the context.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.addresses import is_fetched, may_be_fetched
from aml_images_dagster.catalog.dockerfile.expansion import ExpansionError
from aml_images_dagster.catalog.dockerfile.flags import MountError, mount_fields
from aml_images_dagster.catalog.dockerfile.instructions import (
    Instruction,
    NotTextError,
    is_heredoc,
    json_list,
    plain_words,
    read_instructions,
)
from aml_images_dagster.catalog.dockerfile.scope import Scope
from aml_images_dagster.catalog.globs import GlobError, glob_expression

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile

_COMMIT = re.compile(r"#[0-9a-f]{40}(:|$)")


@dataclass(frozen=True, slots=True)
class CopySource:
    """One source of COPY, ADD or `RUN --mount=type=bind` in the build context.

    Attributes:
        written: As the Dockerfile has it.
        pattern: After expansion, relative to the context without `.` and `..`, empty for all of it; None when a
            variable in it has no value that can be known.
        keyword: COPY, ADD or RUN --mount.
        line: Line of the instruction, counted from 1.
        stage: Index of the stage that it is in.
        instruction: Number of the instruction in the Dockerfile.
    """

    written: str
    pattern: str | None
    keyword: str
    line: int
    stage: int
    instruction: int = 0

    def matches(self, files: Iterable[str]) -> list[str]:
        """Those of the context's files that are copied; a folder brings everything below it."""
        return [] if self.pattern is None else [file for file in files if takes(self.pattern, file)]


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """One source of ADD that the builder fetches, or may fetch: an address or a git repository.

    Attributes:
        written: As the Dockerfile has it.
        address: After expansion; empty when a variable in it has no value that can be known, or when it may as well
            be a file of the context.
        is_fixed: Whether it says what content it is: by a checksum, or by the name of a commit.
        line: Line of the instruction, counted from 1.
    """

    written: str
    address: str
    is_fixed: bool
    line: int


def takes(pattern: str, path: str) -> bool:
    """Whether a source with this pattern copies a file of the context; an empty pattern is all of it."""
    return not pattern or _expression(pattern).fullmatch(path) is not None


def is_literal(part: str) -> bool:
    """Whether a part of a pattern is a name as it is."""
    return not set("*?[\\") & set(part)


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern and everything below what it matches; `**` is any folders, as `COPY --parents` has it."""
    parts = ["(?:[^/]+/)*" if part == "**" else f"{_part(part)}/" for part in pattern.split("/")]
    expression = "".join(parts)
    return re.compile(f"{expression[:-1]}(?:/.*)?" if expression.endswith("/") else f"{expression}.*", re.DOTALL)


def _part(part: str) -> str:
    try:
        return glob_expression(part)
    except GlobError:  # rules.py says so
        return re.escape(part)


def copy_sources(
    dockerfile: Dockerfile,
    build_args: Mapping[str, str] | None,
    platforms: Iterable[str],
    *,
    on_any_builder: bool = False,
) -> list[CopySource]:
    """Everything that is taken from the context on any of the platforms, each once.

    It has no other stages or images, no addresses, no heredocs.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
        platforms: What TARGETARCH and its companions are made from.
        on_any_builder: Whether BUILDARCH and its companions have no known value; else the builder is linux/amd64.
    """
    each = (_sources(dockerfile, build_args, platform, on_any_builder=on_any_builder) for platform in platforms)
    return [source for source in dict.fromkeys(chain.from_iterable(each)) if isinstance(source, CopySource)]


def remote_sources(
    dockerfile: Dockerfile, build_args: Mapping[str, str] | None, platforms: Iterable[str]
) -> list[RemoteSource]:
    """Everything that ADD may fetch on any of the platforms, behind ONBUILD as well, each once.

    A builder's machine may be anything, so what depends on BUILDARCH or its companions may be an address.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
        platforms: What TARGETARCH and its companions are made from.
    """
    each = (_sources(dockerfile, build_args, platform, on_any_builder=True) for platform in platforms)
    return [source for source in dict.fromkeys(chain.from_iterable(each)) if isinstance(source, RemoteSource)]


def _sources(
    dockerfile: Dockerfile, build_args: Mapping[str, str] | None, platform: str, *, on_any_builder: bool = False
) -> Iterator[CopySource | RemoteSource]:
    scope = Scope(dockerfile, build_args or {}, platform, on_any_builder=on_any_builder)
    for number, instruction in enumerate(read_instructions(dockerfile.text, str, dockerfile.escape)):
        match instruction.keyword:
            case "COPY" | "ADD":
                yield from _copied(dockerfile, scope, instruction, number, is_windows=platform.startswith("windows/"))
            case "RUN" if not instruction.on_build:
                for written in _bound(scope, instruction):
                    path = _path(written, dockerfile, scope)
                    yield CopySource(written, path, "RUN --mount", instruction.line, scope.stage, number)
        scope.take(instruction)


def _copied(
    dockerfile: Dockerfile, scope: Scope, instruction: Instruction, number: int, *, is_windows: bool
) -> Iterator[CopySource | RemoteSource]:
    keyword, line = instruction.keyword, instruction.line
    flags = {flag.name for flag in instruction.flags if flag.value}
    if keyword == "COPY" and "from" in flags:
        return
    for written in _arguments(instruction)[:-1]:
        if is_heredoc(written):
            continue
        # A trigger has the values of the image that is FROM this one.
        address = None if instruction.on_build and "$" in written else _known(scope, written)
        if keyword == "ADD" and (address is None or may_be_fetched(address)):
            is_fixed = "checksum" in flags or bool(_COMMIT.search(address or ""))
            certain = address if address is not None and is_fetched(address) else ""
            yield RemoteSource(written, certain, is_fixed, line)
        if not instruction.on_build and not is_fetched(address or written):
            path = _path(written, dockerfile, scope, is_windows=is_windows)
            yield CopySource(written, path, keyword, line, scope.stage, number)


def _path(written: str, dockerfile: Dockerfile, scope: Scope, *, is_windows: bool = False) -> str | None:
    value = _known(scope, written)
    if value is None:
        return None
    if dockerfile.escape == "`":  # a Windows Dockerfile, whose paths may have backslashes
        value = value.replace("\\", "/")
    # What is above the context is the context itself for BuildKit; the classic builder refuses it.
    start = "" if is_windows else "/"
    cleaned = posixpath.normpath(start + value.lstrip("/") or ".").lstrip("/")
    return "" if cleaned == "." else cleaned


def _known(scope: Scope, word: str) -> str | None:
    """A word after expansion; None when it depends on the base, or cannot be expanded, which rules.py says."""
    try:
        return scope.known(word)
    except ExpansionError:
        return None


def _arguments(instruction: Instruction) -> list[str]:
    try:
        listed = json_list(instruction.text)
    except NotTextError:
        return []
    return plain_words(instruction.text) if listed is None else listed


def _bound(scope: Scope, instruction: Instruction) -> Iterator[str]:
    """What bind mounts take from the context."""
    for flag in instruction.flags:
        if flag.name != "mount":
            continue
        try:
            fields = {field.key: field.value for field in mount_fields(flag)}
        except MountError:
            continue
        kind = _known(scope, fields.get("type", "bind"))
        if kind is not None and kind.lower() == "bind" and not fields.get("from"):
            yield fields.get("source", fields.get("src", "."))
