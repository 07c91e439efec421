"""What RUN installs: commands of package managers, and packages that pip is asked for without a version.

A shell has more ways to say it than are read here. What is not understood installs nothing: a warning has to be right.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.instructions import NotTextError, json_list, read_instructions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile
    from aml_images_dagster.catalog.dockerfile.instructions import Instruction

_MANAGERS = r"apt|apt-get|apk|conda|dnf|gem|mamba|microdnf|micromamba|npm|tdnf|yum|zypper"
_MANAGER = re.compile(rf"(?:.*[/\\])?(?:{_MANAGERS})(?:\.exe)?", re.IGNORECASE)
_PIP = re.compile(r"(?:.*[/\\])?pip[\d.]*(?:\.exe)?", re.IGNORECASE)
_PYTHON = re.compile(r"(?:.*[/\\])?python[\d.]*(?:\.exe)?", re.IGNORECASE)
_END_OF_COMMAND = re.compile(r"[;&|()]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
# https://pip.pypa.io/en/stable/cli/pip_install/: these decide the versions, or bring the packages.
_FIXED_ELSEWHERE = re.compile(r"-c.*|--constraint(=.*)?|--no-index")
_FLAGS = re.compile(
    r"-[qUvI]+|--(quiet|upgrade|verbose|user|pre|isolated|compile|force-reinstall|ignore-installed|break-system-packages"
    r"|disable-pip-version-check|require-hashes|prefer-binary|use-pep517|no-(?!binary).*)"
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,.\s-]*\])?([<>~!=].*)?", re.ASCII)
_FILE = re.compile(r".*\.(whl|zip|tar\.\w+|tgz)")


@dataclass(frozen=True, slots=True)
class Install:
    """A command of a package manager in RUN.

    Attributes:
        line: First line of the instruction, counted from 1.
        manager: What it calls, e.g. `apt-get`.
        unpinned: Packages that pip is asked for without a version of their own, as written.
    """

    line: int
    manager: str
    unpinned: tuple[str, ...] = ()


def installs(dockerfile: Dockerfile) -> Iterator[Install]:
    """What the stages install that the image is made from, in order of the text."""
    for instruction in read_instructions(dockerfile.text, str, dockerfile.escape):
        stage = sum(each.line <= instruction.line for each in dockerfile.stages) - 1
        if instruction.keyword == "RUN" and stage in dockerfile.needed_stages:
            for words in _commands(instruction):
                if found := _install(words, instruction.line):
                    yield found


def _commands(instruction: Instruction) -> Iterator[list[str]]:
    try:
        listed = json_list(instruction.text)
    except NotTextError:
        return
    if listed is not None:
        yield listed
        return
    for text in [each.text for each in instruction.heredocs] or [instruction.text]:
        for line in text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
            lexer.escape, lexer.commenters, lexer.whitespace_split = "", "", True
            try:
                found = list(takewhile(lambda word: not word.startswith("#"), lexer))
            except ValueError:  # a quote that ends on another line
                continue
            command: list[str] = []
            for word in found:
                if _END_OF_COMMAND.fullmatch(word):
                    yield command
                    command = []
                else:
                    command.append(word)
            yield command


def _install(words: Sequence[str], line: int) -> Install | None:
    while words and (words[0] == "sudo" or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    if len(words) > 2 and _PYTHON.fullmatch(words[0]) and words[1:3] == ["-m", "pip"]:
        words = words[2:]
    if not words or not {"install", "add", "create"} & set(words[1:]):
        return None
    if _PIP.fullmatch(words[0]):
        rest = words[words.index("install") + 1 :] if "install" in words else []
        return Install(line, "pip", tuple(_unpinned(rest)))
    return Install(line, re.split(r"[/\\]", words[0])[-1]) if _MANAGER.fullmatch(words[0]) else None


def _unpinned(words: Sequence[str]) -> Iterator[str]:
    if any(_FIXED_ELSEWHERE.fullmatch(word) for word in words):
        return
    is_value = False
    for word in words:
        if is_value or word.startswith("-"):
            # An option that is not known to stand alone has the next word as its value, unless it has one already.
            is_value = not is_value and "=" not in word and not _FLAGS.fullmatch(word)
        elif _NAME.fullmatch(word) and not _FILE.fullmatch(word) and not re.search(r"==(?!.*\*)", word):
            yield word
