"""What a Dockerfile copies out of the build context.

Rules for sources: https://docs.docker.com/reference/dockerfile/#copy and #add; patterns are those of Go's
filepath.Match, relative to the context.
"""

from __future__ import annotations

import csv
import json
import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.dockerfile import platform_variables
from aml_images_dagster.catalog.dockerfile.expansion import ExpansionError, expand, split_words
from aml_images_dagster.catalog.dockerfile.instructions import Instruction, read_instructions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile
    from aml_images_dagster.catalog.dockerfile.flags import Flag

_REMOTE = re.compile(r"https?://|ftp://|git@|git://|ssh://")
_COMMIT = re.compile(r"#[0-9a-f]{40}(:|$)")
_GLOB = re.compile(
    r"\\(?P<escaped>.)|\[(?P<negated>\^?)(?P<class>(?:\\.|[^\]\\])+)\]|(?P<any>\*+)|(?P<one>\?)|(?P<plain>.)", re.DOTALL
)


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
        fault: Why the builder cannot read it; empty when it can.
    """

    written: str
    pattern: str | None
    keyword: str
    line: int
    stage: int
    fault: str = ""

    def matches(self, files: Iterable[str]) -> list[str]:
        """Those of the context's files that are copied; a folder brings everything below it."""
        return [] if self.pattern is None else [file for file in files if takes(self.pattern, file)]


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """One source of ADD that the builder fetches, or may fetch: an address or a git repository.

    Attributes:
        written: As the Dockerfile has it.
        address: After expansion; empty when a variable in it has no value that can be known.
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
    def translate(match: re.Match[str]) -> str:
        if match["any"]:
            return "[^/]*"
        if match["one"]:
            return "[^/]"
        if match["class"]:
            return f"[{match['negated']}{match['class'].replace('[', chr(92) + '[')}]"
        return re.escape(match["escaped"] or match["plain"])

    return _GLOB.sub(translate, part)


def copy_sources(
    dockerfile: Dockerfile, build_args: Mapping[str, str] | None = None, platform: str = "linux/amd64"
) -> list[CopySource]:
    """Everything that is taken from the context: no other stages or images, no addresses, no heredocs.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
        platform: What TARGETARCH and its companions are made from.
    """
    return [each for each in _sources(dockerfile, build_args, platform) if isinstance(each, CopySource)]


def remote_sources(
    dockerfile: Dockerfile, build_args: Mapping[str, str] | None = None, platform: str = "linux/amd64"
) -> list[RemoteSource]:
    """Everything that ADD may fetch, behind ONBUILD as well.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
        platform: What TARGETARCH and its companions are made from.
    """
    return [each for each in _sources(dockerfile, build_args, platform) if isinstance(each, RemoteSource)]


def _sources(
    dockerfile: Dockerfile, build_args: Mapping[str, str] | None, platform: str
) -> Iterator[CopySource | RemoteSource]:
    reader = _Reader(dockerfile, build_args or {}, platform)
    for instruction in read_instructions(dockerfile.text, str, dockerfile.escape):
        yield from reader.read(instruction)


class _Reader:
    """Follows the values of variables through the stages of a Dockerfile."""

    def __init__(self, dockerfile: Dockerfile, build_args: Mapping[str, str], platform: str) -> None:
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._is_windows = platform.startswith("windows/")
        self._before_from = {} if self._is_windows else platform_variables(platform, build_args)
        self._stages: list[dict[str, str]] = []
        """The variables of every stage so far: for BuildKit, ARG and ENV are one, and the last of them counts."""

    def read(self, instruction: Instruction) -> Iterator[CopySource | RemoteSource]:
        """What an instruction takes from the context, or fetches."""
        match instruction.keyword:
            case "FROM" if not instruction.on_build:
                stage = self._dockerfile.stages[len(self._stages)]
                self._stages.append({} if stage.parent is None else dict(self._stages[stage.parent]))
            case "ARG" if not instruction.on_build:
                self._variables.update(self._declared(instruction))
            case "ENV" if not instruction.on_build:
                self._variables.update(self._environment(instruction))
            case "COPY" if not any(flag.name == "from" for flag in instruction.flags):
                yield from self._copied(instruction)
            case "ADD":
                yield from self._copied(instruction)
            case "RUN" if not instruction.on_build:
                for flag in instruction.flags:
                    if flag.name == "mount" and (bound := _bound(flag)) is not None:
                        yield self._source(bound, "RUN --mount", instruction)

    def _copied(self, instruction: Instruction) -> Iterator[CopySource | RemoteSource]:
        has_checksum = any(flag.name == "checksum" and flag.value for flag in instruction.flags)
        for written in self._arguments(instruction)[:-1]:
            if written.startswith("<<"):
                continue
            source = self._source(written, instruction.keyword, instruction)
            address = self._known(written)
            if instruction.keyword == "ADD" and (address is None or _REMOTE.match(address)):
                is_fixed = has_checksum or bool(_COMMIT.search(address or ""))
                yield RemoteSource(written, address or "", is_fixed, instruction.line)
            if not instruction.on_build and not _REMOTE.match(address or written):
                yield source

    @property
    def _variables(self) -> dict[str, str]:
        return self._stages[-1] if self._stages else self._before_from

    def _source(self, written: str, keyword: str, instruction: Instruction) -> CopySource:
        stage = len(self._stages) - 1
        try:
            value = self._known(written, strict=True)
        except ExpansionError as error:
            return CopySource(written, None, keyword, instruction.line, stage, str(error))
        if value is None:
            return CopySource(written, None, keyword, instruction.line, stage)
        if self._dockerfile.escape == "`":  # a Windows Dockerfile, whose paths may have backslashes
            value = value.replace("\\", "/")
        # What is above the context is the context itself for BuildKit; the classic builder refuses it.
        start = "" if self._is_windows else "/"
        cleaned = posixpath.normpath(start + value.lstrip("/") or ".").lstrip("/")
        return CopySource(written, "" if cleaned == "." else cleaned, keyword, instruction.line, stage)

    def _known(self, word: str, *, strict: bool = False) -> str | None:
        """A word after expansion; None when a variable in it has no value here: a base may give it one."""
        variables = self._variables
        try:
            expansion = expand(word, variables, self._dockerfile.escape)
        except ExpansionError:
            if strict:
                raise
            return None
        return expansion.value if all(name in variables for name in expansion.without_value) else None

    def _arguments(self, instruction: Instruction) -> list[str]:
        """The arguments of COPY or ADD: a JSON list, or words, in which quotes keep nothing together."""
        arguments = instruction.body[instruction.arguments :].strip()
        if arguments.startswith("["):
            try:
                listed = json.loads(arguments)
            except ValueError:
                listed = None
            if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
                return listed
        return arguments.split()

    def _words(self, instruction: Instruction) -> list[str]:
        arguments = instruction.body[instruction.arguments :].strip()
        try:
            return split_words(arguments, keep_quoting=True, escape=self._dockerfile.escape)
        except ExpansionError:
            return arguments.split()

    def _declared(self, instruction: Instruction) -> dict[str, str]:
        """What ARG declares: a build argument wins over the default, and that over one before the first FROM."""
        known = self._before_from | self._variables
        found = {}
        for word in self._words(instruction):
            name, has_default, default = word.partition("=")
            if name in self._build_args:
                found[name] = self._build_args[name]
            elif has_default:
                found[name] = self._value(default, known)
            elif name in known:
                found[name] = known[name]
        return found

    def _environment(self, instruction: Instruction) -> dict[str, str]:
        words = self._words(instruction)
        if words and "=" not in words[0]:  # the old form, ENV name value
            return {words[0]: self._value(" ".join(words[1:]), self._variables)}
        pairs = (word.partition("=") for word in words)
        return {name: self._value(value, self._variables) for name, _, value in pairs}

    def _value(self, word: str, known: Mapping[str, str]) -> str:
        try:
            return expand(word, known, self._dockerfile.escape).value
        except ExpansionError:
            return ""


def _bound(flag: Flag) -> str | None:
    """What `RUN --mount` takes from the context; None when it is no bind mount, or one of something else."""
    parts = (part.partition("=") for part in next(csv.reader([flag.value]), []))
    fields = {key.lower(): value for key, _, value in parts}
    if fields.get("type", "bind") != "bind" or fields.get("from"):
        return None
    return fields.get("source", fields.get("src", "."))
