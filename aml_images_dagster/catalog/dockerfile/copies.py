"""What a Dockerfile copies out of the build context.

Rules for sources: https://docs.docker.com/reference/dockerfile/#copy and #add; patterns are those of Go's
filepath.Match, relative to the context.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.expansion import ExpansionError, expand, split_words
from aml_images_dagster.catalog.dockerfile.instructions import Instruction, read_instructions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile

_REMOTE = re.compile(r"https?://|ftp://|git@|git://|ssh://")
_COMMIT = re.compile(r"#[0-9a-f]{40}(:|$)")


@dataclass(frozen=True, slots=True)
class CopySource:
    """One source of COPY or ADD in the build context.

    Attributes:
        written: As the Dockerfile has it.
        pattern: After expansion, relative to the context; None when a variable in it has no value that can be known.
        keyword: COPY or ADD.
        line: Line of the instruction, counted from 1.
    """

    written: str
    pattern: str | None
    keyword: str
    line: int

    def matches(self, files: Collection[str]) -> list[str]:
        """Those of the context's files that are copied; a folder brings everything below it."""
        if self.pattern is None:
            return []
        cleaned = posixpath.normpath(self.pattern.lstrip("/") or ".")
        if cleaned == ".":
            return list(files)
        # A pattern with a slash in front has to match the whole path. Go writes a negated class as [^…].
        pattern = f"/{cleaned}".replace("[^", "[!")
        paths = {file: PurePosixPath("/", file) for file in files}
        return [file for file, path in paths.items() if any(step.match(pattern) for step in (path, *path.parents))]


def copy_sources(dockerfile: Dockerfile, build_args: Mapping[str, str] | None = None) -> list[CopySource]:
    """Everything that COPY and ADD take from the context: no other stages or images, no addresses, no heredocs.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
    """
    found = []
    for instruction, variables in _copying(dockerfile, build_args or {}):
        if not instruction.on_build:
            found += _sources(instruction, variables, dockerfile.escape)
    return found


def _copying(dockerfile: Dockerfile, given: Mapping[str, str]) -> Iterator[tuple[Instruction, Mapping[str, str]]]:
    """Every COPY and ADD, with the values that variables have there."""
    before_from: dict[str, str] = {}
    variables: dict[str, str] = {}
    in_stage = False
    for instruction in read_instructions(dockerfile.text, str, dockerfile.escape):
        match instruction.keyword:
            case "FROM":
                in_stage, variables = True, {}
            case "ARG":
                values = _arguments(instruction, before_from | variables, given, dockerfile.escape)
                (variables if in_stage else before_from).update(values)
            case "ENV":
                variables.update(_environment(instruction, variables, dockerfile.escape))
            case "COPY" | "ADD":
                yield instruction, variables


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


def remote_sources(dockerfile: Dockerfile, build_args: Mapping[str, str] | None = None) -> list[RemoteSource]:
    """Everything that ADD may fetch, behind ONBUILD as well.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
    """
    found = []
    for instruction, variables in _copying(dockerfile, build_args or {}):
        if instruction.keyword != "ADD":
            continue
        has_checksum = any(flag.name == "checksum" and flag.value for flag in instruction.flags)
        for written in _words(instruction, dockerfile.escape)[:-1]:
            address = _known_value(written, variables, dockerfile.escape)
            if address is None or _REMOTE.match(address):
                is_fixed = has_checksum or bool(_COMMIT.search(address or ""))
                found.append(RemoteSource(written, address or "", is_fixed, instruction.line))
    return found


def _known_value(word: str, variables: Mapping[str, str], escape: str) -> str | None:
    try:
        expansion = expand(word, variables, escape)
    except ExpansionError:
        return None
    return None if expansion.without_value else expansion.value


def _sources(instruction: Instruction, variables: Mapping[str, str], escape: str) -> list[CopySource]:
    if any(flag.name == "from" for flag in instruction.flags):
        return []
    sources = []
    for written in _words(instruction, escape)[:-1]:
        if written.startswith("<<") or _REMOTE.match(written):
            continue
        pattern = _known_value(written, variables, escape)
        if pattern and escape == "`":  # a Windows Dockerfile, whose paths may have backslashes
            pattern = pattern.replace("\\", "/")
        sources.append(CopySource(written, pattern, instruction.keyword, instruction.line))
    return sources


def _words(instruction: Instruction, escape: str) -> list[str]:
    """The arguments: a JSON list, or words."""
    arguments = instruction.body[instruction.arguments :].strip()
    if arguments.startswith("["):
        try:
            listed = json.loads(arguments)
        except ValueError:
            listed = None
        if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
            return listed
    try:
        return split_words(arguments, keep_quoting=True, escape=escape)
    except ExpansionError:
        return arguments.split()


def _arguments(
    instruction: Instruction, known: Mapping[str, str], given: Mapping[str, str], escape: str
) -> dict[str, str]:
    """What ARG declares: a build argument wins over the default, and that over one before the first FROM."""
    found = {}
    for word in _words(instruction, escape):
        name, has_default, default = word.partition("=")
        if name in given:
            found[name] = given[name]
        elif has_default:
            found[name] = _value(default, known, escape)
        elif name in known:
            found[name] = known[name]
    return found


def _environment(instruction: Instruction, known: Mapping[str, str], escape: str) -> dict[str, str]:
    words = _words(instruction, escape)
    if words and "=" not in words[0]:  # the old form, ENV name value
        return {words[0]: _value(" ".join(words[1:]), known, escape)}
    pairs = (word.partition("=") for word in words)
    return {name: _value(value, known, escape) for name, _, value in pairs}


def _value(word: str, known: Mapping[str, str], escape: str) -> str:
    try:
        return expand(word, known, escape).value
    except ExpansionError:
        return ""
