"""What BuildKit refuses of single instructions: flags, number and form of arguments, values.

Every instruction is read, also those of stages that nothing needs (`parse`, in code
https://github.com/moby/buildkit/blob/v0.13.2/frontend/dockerfile/instructions/parse.go). What depends on variables is
looked at when a stage is built (`dispatch` of dockerfile2llb/convert.go). The classic builder reads with the same code,
and builds every stage. Triggers behind ONBUILD are read by whoever is FROM the image.

Which flags a builder has is not asked here, see builder_features.py.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.addresses import is_fetched, is_file_address
from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH
from aml_images_dagster.catalog.dockerfile.expansion import ExpansionError, check_patterns, split_words
from aml_images_dagster.catalog.dockerfile.flags import MountError, check_mount, mount_fields
from aml_images_dagster.catalog.dockerfile.instructions import (
    NotTextError,
    is_heredoc,
    json_list,
    odd_blank,
    plain_words,
    read_instructions,
    words,
)
from aml_images_dagster.catalog.dockerfile.scope import Scope, pairs
from aml_images_dagster.catalog.globs import GlobError, path_matcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile
    from aml_images_dagster.catalog.dockerfile.instructions import Instruction

_ON_OFF = frozenset({"link", "keep-git-dir", "parents", "unpack"})
_SEVERAL = frozenset({"mount", "exclude", "device"})
_FLAGS: Mapping[str, frozenset[str]] = {
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
    **dict.fromkeys(("ENV", "LABEL", "MAINTAINER", "WORKDIR", "USER", "EXPOSE", "VOLUME"), frozenset[str]()),
    **dict.fromkeys(("CMD", "ENTRYPOINT", "SHELL", "ONBUILD"), frozenset[str]()),
}
"""Flags of the instructions that are not of builder_features.py. ARG and STOPSIGNAL ignore what they are given."""
_EXEC_FORM = frozenset({"ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"})
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_LONGEST_SECONDS = (2**63 - 1) / 1e9
_SIGNAL = re.compile(
    "(?:SIG)?(?:ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS|"
    "TERM|TRAP|TSTP|TTIN|TTOU|URG|USR[12]|VTALRM|WINCH|XCPU|XFSZ|"
    r"RTMIN(?:\+([1-9]|1[0-5]))?|RTMAX(?:-([1-9]|1[0-4]))?)"
)
_PORTS = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?(?:-.*)?", re.ASCII)
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True, slots=True, order=True)
class InstructionFault:
    """An instruction that the builder refuses.

    Attributes:
        line: Its first line, counted from 1.
        message: What is wrong.
    """

    line: int
    message: str


class _RefusedError(ValueError):
    """What is wrong with an instruction."""


def instruction_faults(
    dockerfile: Dockerfile, build_args: Mapping[str, str] | None = None, platform: str = "linux/amd64"
) -> list[InstructionFault]:
    """Everything in a Dockerfile that the builder refuses because of how an instruction is written.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
        platform: What it is built for.
    """
    rules = _Rules(dockerfile, build_args or {}, platform)
    found = []
    for instruction in read_instructions(dockerfile.text, str, dockerfile.escape):
        try:
            rules.check(instruction)
        except (_RefusedError, ExpansionError, MountError, GlobError) as error:
            what = str(error) if str(error).startswith(instruction.keyword) else f"{instruction.keyword}: {error}"
            if blank := odd_blank(instruction.body):
                what += f"; a {blank} in it is taken for a letter"
            found.append(InstructionFault(instruction.line, what))
    return found


def odd_blanks(dockerfile: Dockerfile) -> Iterator[InstructionFault]:
    """Blanks in RUN that the shell takes for letters."""
    for instruction in read_instructions(dockerfile.text, str, dockerfile.escape):
        if instruction.keyword == "RUN" and (blank := odd_blank(instruction.body)):
            first, _ = instruction.span(0, 1)
            at, _ = instruction.span(*_place_of_odd_blank(instruction.body))
            line = instruction.line + dockerfile.text.count("\n", first, at)
            yield InstructionFault(line, f"RUN: a {blank} stands here, which the shell takes for a letter")


def _place_of_odd_blank(body: str) -> tuple[int, int]:
    at = next(index for index, char in enumerate(body) if odd_blank(char))
    return at, at + 1


class _Rules:
    def __init__(self, dockerfile: Dockerfile, build_args: Mapping[str, str], platform: str) -> None:
        self._dockerfile = dockerfile
        self._is_windows = platform.startswith("windows/")
        self._scope = Scope(dockerfile, build_args, platform)
        self._folders: list[str | None] = []
        """The WORKDIR of every stage; None when the base decides it."""

    def check(self, instruction: Instruction) -> None:
        """Check an instruction; all of them in their order.

        Raises:
            _RefusedError: The builder refuses it.
            ExpansionError: Quotes or variables in it cannot be read.
            MountError: RUN --mount is wrong.
            GlobError: A pattern of COPY is none.
        """
        if instruction.keyword == "FROM" and not instruction.on_build:
            self._enter(instruction)
            _check_flags(instruction)
            return
        listed = self._exec_form(instruction)
        if instruction.on_build:
            return
        _check_flags(instruction)
        _check_arguments(instruction, listed, self._dockerfile.escape)
        try:
            if self._is_windows or self._scope.stage in self._dockerfile.needed_stages:
                self._check_values(instruction, listed)
        finally:
            self._scope.take(instruction)

    def _enter(self, instruction: Instruction) -> None:
        stage = self._dockerfile.stages[len(self._folders)]
        if self._is_windows and stage.parent is None and stage.base == SCRATCH:
            self._scope.take(instruction)
            self._folders.append(None)
            raise _RefusedError("FROM scratch is not for Windows images")
        of_base = "/" if stage.base == SCRATCH else None
        self._folders.append(of_base if stage.parent is None else self._folders[stage.parent])
        self._scope.take(instruction)

    @staticmethod
    def _exec_form(instruction: Instruction) -> list[str] | None:
        text = instruction.text
        if instruction.keyword == "HEALTHCHECK":
            _, text = (*text.split(maxsplit=1), "", "")[:2]
        elif instruction.keyword not in _EXEC_FORM:
            return None
        try:
            return json_list(text)
        except NotTextError:
            raise _RefusedError("a JSON list may only have texts in it") from None

    def _check_values(self, instruction: Instruction, listed: list[str] | None) -> None:
        """What depends on variables."""
        known = self._scope.known
        if instruction.keyword in ("ADD", "COPY", "RUN", "WORKDIR"):
            keep_unset = instruction.keyword == "RUN"
            check_patterns(instruction.body, self._scope.variables, self._dockerfile.escape, keep_unset=keep_unset)
        match instruction.keyword:
            case "ENV" | "LABEL":
                for pair in pairs(instruction, self._dockerfile.escape):
                    for word in pair:
                        known(word)
            case "ARG":
                for word in words(instruction.text, self._dockerfile.escape) if self._scope.stage >= 0 else ():
                    name, _, default = word.partition("=")
                    known(name)
                    known(default)
            case "WORKDIR":
                folder = known(instruction.text)
                here = self._folders[-1]
                absolute = folder is not None and folder.startswith("/")
                if folder is not None and (absolute or here is not None):
                    self._folders[-1] = posixpath.normpath(posixpath.join(here or "/", folder))
                else:
                    self._folders[-1] = None
            case "USER":
                known(instruction.text)
            case "EXPOSE":
                for word in plain_words(instruction.text):
                    value = known(word)
                    for port in split_words(value or "", keep_quoting=False) if value is not None else ():
                        _check_port(port)
            case "VOLUME":
                for word in plain_words(instruction.text) if listed is None else listed:
                    if known(word.strip()) == "":
                        raise _RefusedError(f"VOLUME {word} is empty")
            case "STOPSIGNAL":
                if self._is_windows:
                    raise _RefusedError("STOPSIGNAL is not for Windows images")
                _check_signal(known(instruction.text))
            case "COPY" | "ADD":
                self._check_copy(instruction, plain_words(instruction.text) if listed is None else listed)
            case "RUN":
                self._check_run(instruction, listed)

    def _check_copy(self, instruction: Instruction, given: list[str]) -> None:
        known, keyword = self._scope.known, instruction.keyword
        flags = {flag.name: flag.value for flag in instruction.flags}
        known(flags.get("chown", ""))
        checksum = known(flags.get("checksum", ""))
        sources = [known(word) for word in given[:-1] if not is_heredoc(word)]
        destination = known(given[-1])
        for heredoc in instruction.heredocs:
            if not heredoc.is_quoted:
                known(heredoc.text, is_heredoc=True)
        for source in filter(None, sources):
            path_matcher(posixpath.normpath(f"/{source}").lstrip("/"))
        if "from" not in flags and keyword == "COPY":
            for source in filter(None, sources):
                if is_fetched(source):
                    raise _RefusedError(f"COPY takes nothing from elsewhere, such as {source}; ADD does")
        if checksum and keyword == "ADD":
            if not _CHECKSUM.fullmatch(checksum):
                raise _RefusedError(f"--checksum={checksum} is none; write sha256: and 64 digits")
            if len(sources) != 1 or (sources[0] is not None and not is_file_address(sources[0])):
                raise _RefusedError("--checksum is for one address, http:// or https://")
        if self._is_windows and len(sources) > 1 and destination is not None and destination[-1:] not in ("/", "\\"):
            raise _RefusedError(f"several sources go into a folder: write a / behind {destination}")

    def _check_run(self, instruction: Instruction, listed: list[str] | None) -> None:
        if listed == [] and not instruction.heredocs:
            raise _RefusedError("there is no command in the list")
        for flag in instruction.flags:
            if flag.name == "mount":
                check_mount(flag, self._scope.known, self._folders[-1])
        for heredoc in instruction.heredocs:
            check_patterns(heredoc.text, self._scope.variables, self._dockerfile.escape, keep_unset=True)


def _check_flags(instruction: Instruction) -> None:
    known = _FLAGS.get(instruction.keyword)
    if known is None and instruction.keyword not in ("ADD", "COPY", "FROM", "RUN"):
        return
    if instruction.keyword == "HEALTHCHECK" and instruction.text.upper() == "NONE":
        return
    seen = set()
    for flag in instruction.flags:
        if known is not None and flag.name not in known:
            raise _RefusedError(f"{instruction.keyword} has no flag --{flag.name}")
        if flag.name in seen and flag.name not in _SEVERAL:
            raise _RefusedError(f"--{flag.name} is there twice")
        seen.add(flag.name)
        if flag.name in _ON_OFF:
            if (flag.has_value and not flag.value) or flag.value.lower() not in ("", "true", "false"):
                raise _RefusedError(f"--{flag.name}={flag.value} is neither true nor false")
        elif not flag.has_value:
            raise _RefusedError(f"--{flag.name} has no value")


def _check_arguments(instruction: Instruction, listed: list[str] | None, escape: str) -> None:
    """Number and form of what an instruction is given, before variables are expanded."""
    text, keyword = instruction.text, instruction.keyword
    match keyword:
        case "ENV" | "LABEL" | "ARG" if not text:
            raise _RefusedError(f"{keyword} has no name")
        case "ENV" | "LABEL" | "ARG":
            given = words(text, escape)
            if keyword != "ARG" and "=" not in given[0]:
                given = given[:1]  # the old form, in which all that follows is the value
            if any(word.startswith("=") for word in given):
                raise _RefusedError("a name is missing in front of =")
        case "MAINTAINER" | "WORKDIR" | "USER" | "STOPSIGNAL" | "EXPOSE" if not text:
            raise _RefusedError(f"{keyword} has no value")
        case "VOLUME":
            folders = plain_words(text) if listed is None else listed
            if not folders or not all(folder.strip() for folder in folders):
                raise _RefusedError("VOLUME has no folder" if not folders else "the folder is empty")
        case "SHELL":
            if not listed:
                raise _RefusedError('SHELL takes a JSON list, such as ["/bin/bash", "-c"]')
        case "HEALTHCHECK":
            _check_healthcheck(instruction, listed)
        case "COPY" | "ADD":
            given = plain_words(text) if listed is None else listed
            if len(given) < 2:
                raise _RefusedError(f"{keyword} takes sources and a destination")
            if is_heredoc(given[-1]):
                raise _RefusedError(f"{keyword} has a heredoc where its destination should be")
        case "RUN":
            network = next((flag.value for flag in instruction.flags if flag.name == "network"), "default")
            if network not in ("default", "none", "host"):
                raise _RefusedError(f"--network={network} is none of default, none and host")
            security = next((flag.value for flag in instruction.flags if flag.name == "security"), "sandbox")
            if security not in ("sandbox", "insecure"):
                raise _RefusedError(f"--security={security} is neither sandbox nor insecure")
            for flag in instruction.flags:
                if flag.name == "mount":
                    mount_fields(flag)


def _check_healthcheck(instruction: Instruction, listed: list[str] | None) -> None:
    kind, *rest = instruction.text.split(maxsplit=1) or [""]
    if kind.upper() == "NONE":
        if rest and listed != []:
            raise _RefusedError("HEALTHCHECK NONE takes nothing else")
        return
    if kind.upper() != "CMD":
        raise _RefusedError("HEALTHCHECK takes CMD and a command, or NONE")
    if not rest or listed == []:
        raise _RefusedError("there is no command behind CMD")
    for flag in instruction.flags:
        if flag.name == "retries":
            if flag.value and not (re.fullmatch(r"\+?[0-9]+", flag.value) and int(flag.value[-11:]) < 2**31):
                raise _RefusedError(f"--retries={flag.value} is no number")
        elif flag.value:
            _check_duration(flag.name, flag.value)


def _check_duration(name: str, value: str) -> None:
    if not _DURATION.fullmatch(value):
        raise _RefusedError(f"--{name}={value} is no duration, such as 30s or 1m30s")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if seconds and (value.startswith("-") or seconds < 1e-3):
        raise _RefusedError(f"--{name}={value} is less than 1ms")
    if seconds > _LONGEST_SECONDS:
        raise _RefusedError(f"--{name}={value} is too long")


def _check_port(written: str) -> None:
    """A port as `-p` of `docker run` has it. Source: https://github.com/docker/go-connections, nat."""
    *host, port = written.split(":")
    port, _, protocol = port.partition("/")
    ranges = _port_range(port)
    on_host = _port_range(host[-1]) if host and host[-1] else None
    if ranges is None or (host and host[-1] and on_host is None):
        raise _RefusedError(f"{written} is no port; ports are 0 to 65535, ranges such as 8000-8010")
    if on_host and on_host[1] - on_host[0] != ranges[1] - ranges[0] != 0:
        raise _RefusedError(f"{written}: the two ranges differ in length")
    if protocol.partition("/")[0].lower() not in ("", "tcp", "udp", "sctp"):
        raise _RefusedError(f"{written}: the protocol is none of tcp, udp and sctp")
    address = ":".join(host[:-1])
    bracketed = re.fullmatch(r"\[([^\[\]]*)\]", address)
    address = bracketed[1] if bracketed else address
    if address and not _is_address(address):
        raise _RefusedError(f"{written}: {address} is no IP address")


def _port_range(text: str) -> tuple[int, int] | None:
    found = _PORTS.fullmatch(text)
    if found is None:
        return None
    first = int(found[1])
    last = int(found[2]) if found[2] else first
    return (first, last) if first <= last <= 65535 and (found[2] or "-" not in text) else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _check_signal(written: str | None) -> None:
    if written is None:
        return
    if re.fullmatch(r"[+-]?[0-9]{1,19}", written):
        is_known = int(written) != 0
    else:
        is_known = _SIGNAL.fullmatch(written.upper()) is not None
    if not is_known:
        raise _RefusedError(f"{written!r} is no signal, such as SIGTERM or 15")
