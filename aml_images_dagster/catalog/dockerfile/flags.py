"""The flags behind an instruction's keyword, e.g. `COPY --from=debian:12 …`, and the values of `RUN --mount`.

Source: https://docs.docker.com/reference/dockerfile/#run---mount; in code `parseMount` of BuildKit's
frontend/dockerfile/instructions/commands_runmount.go.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FIELD = re.compile(r'(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^",]*))(?:,|$)')
_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_ON_OFF = {"readonly": "ro", "ro": "ro", "readwrite": "rw", "rw": "rw", "required": "required"}
_TRUE_OR_FALSE = re.compile("1|t|T|TRUE|true|True|0|f|F|FALSE|false|False")
_NAMES = {"src": "source", "dst": "target", "destination": "target"}
_KNOWN = frozenset({"type", "from", "source", "target", "id", "sharing", "size", "mode", "uid", "gid", "env"})
_SIZE = re.compile(r"(?:\d+\.?\d*|\.\d+) ?(?:[kmgtp]i?b?|b)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Character:
    """One character of a flag: its index in the instruction's body, and the quote around it (or nothing)."""

    value: str
    index: int
    quote: str


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes:
        name: Without the dashes, e.g. `from`.
        characters: Those of the value, quotes and escapes resolved.
        has_value: Whether a `=` stands behind the name.
    """

    name: str
    characters: tuple[Character, ...]
    has_value: bool = True

    @property
    def value(self) -> str:
        """The value, quotes and escapes resolved."""
        return "".join(character.value for character in self.characters)


def read_flags(body: str, start: int) -> tuple[tuple[Flag, ...], int]:
    """Read the flags that begin at an index; also returns the index of what follows them.

    A lone `--` ends the flags. The escape character is always the backslash here, as in BuildKit.
    """
    flags: list[Flag] = []
    while True:
        while body[start : start + 1].isspace():
            start += 1
        if not body.startswith("--", start):
            return tuple(flags), start
        characters, start = _word(body, start)
        text = "".join(character.value for character in characters)
        if text == "--":
            continue_at = start
            while body[continue_at : continue_at + 1].isspace():
                continue_at += 1
            return tuple(flags), continue_at
        name, equals, value = text.partition("=")
        flags.append(Flag(name[2:], tuple(characters[len(text) - len(value) :]), bool(equals)))


def _word(body: str, start: int) -> tuple[list[Character], int]:
    characters: list[Character] = []
    quote = ""
    index = start
    while index < len(body):
        char = body[index]
        if quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char.isspace():
            break
        elif char == "\\":
            index += 1
            if index < len(body):
                characters.append(Character(body[index], index, quote))
        else:
            characters.append(Character(char, index, quote))
        index += 1
    return characters, index


class MountError(ValueError):
    """A mount that the builder refuses."""


@dataclass(frozen=True, slots=True)
class MountField:
    """One field of a mount.

    Attributes:
        key: Its name, in lower case.
        value: Its value as it is written; empty without.
        characters: Those of the value.
        has_value: Whether there is a `=`.
    """

    key: str
    value: str
    characters: Sequence[Character]
    has_value: bool


def mount_fields(flag: Flag) -> list[MountField]:
    """The fields of a mount, which are comma-separated values in which a field may be quoted.

    Raises:
        MountError: The commas and quotes cannot be read, or `from` has a variable.
    """
    found: list[MountField] = []
    text, at = flag.value, 0
    if not text:
        raise MountError("RUN --mount is empty")
    while at <= len(text):
        match = _FIELD.match(text, at)
        if match is None:
            raise MountError(f"RUN --mount={text}: the quotes cannot be read")
        group = "plain" if match["quoted"] is None else "quoted"
        key, equals, value = match[group].partition("=")
        end = match.end(group)
        found.append(MountField(key.lower(), value, flag.characters[end - len(value) : end], bool(equals)))
        if match.end() == len(text) and not match[0].endswith(","):
            break
        at = match.end()
    for field in found:
        if field.key == "from" and re.search(r"\$.", field.value):
            raise MountError(
                f"RUN --mount=from={field.value}: variables are not expanded here; name a stage that is FROM it"
            )
    return found


def check_mount(flag: Flag, known: Callable[[str], str | None], folder: str | None) -> None:
    """Check the values of a mount.

    Args:
        flag: `--mount`.
        known: A word after expansion, None when it depends on the base.
        folder: Where a target without a path is; None when the base decides it.

    Raises:
        MountError: The builder refuses it.
        ExpansionError: A variable in it cannot be expanded.
    """
    shown = f"RUN --mount={flag.value}"
    values: dict[str, str] = {"type": "bind"}
    for field in mount_fields(flag):
        key = _NAMES.get(field.key, field.key)
        kind = values["type"]
        value = known(field.value)
        if value is None:
            return
        if key in _ON_OFF:
            if key == "required" and kind not in ("secret", "ssh"):
                raise MountError(f"{shown}: required is for secret and ssh, not for {kind}")
            if field.has_value and not _TRUE_OR_FALSE.fullmatch(value):
                raise MountError(f"{shown}: {key} is neither true nor false")
            continue
        if key not in _KNOWN:
            raise MountError(f"{shown}: mounts have no {field.key!r}")
        if not field.has_value:
            raise MountError(f"{shown}: {key} has no value")
        _check_field(shown, key, value, kind)
        values[key] = value.lower() if key in ("type", "sharing") else value
    _check_together(shown, values)
    _check_target(shown, values, folder)


def _check_field(shown: str, key: str, value: str, kind: str) -> None:
    match key:
        case "type":
            allowed = value.lower() in _TYPES
        case "sharing":
            allowed = value.lower() in ("shared", "private", "locked")
        case "mode":
            allowed = bool(re.fullmatch("[0-7]{1,12}", value)) and int(value, 8) < 2**32
        case "uid" | "gid":
            allowed = bool(re.fullmatch("[0-9]{1,12}", value)) and int(value) < 2**32
        case "size":
            if kind != "tmpfs":
                raise MountError(f"{shown}: size is for tmpfs, not for {kind}")
            allowed = bool(_SIZE.fullmatch(value))
        case _:
            allowed = True
    if not allowed:
        raise MountError(f"{shown}: {value!r} is no {key}")


def _check_together(shown: str, values: dict[str, str]) -> None:
    kind = values["type"]
    owner = next((key for key in ("mode", "uid", "gid") if key in values), "")
    if owner and kind in ("bind", "tmpfs"):
        raise MountError(f"{shown}: {owner} is not for {kind}")
    if kind == "secret":
        if values.get("from"):
            raise MountError(f"{shown}: a secret is from nothing")
        if not any(values.get(key) for key in ("source", "target", "id", "env")):
            raise MountError(f"{shown}: a secret needs an id")
        if values.get("source") and values.get("id"):
            raise MountError(f"{shown}: a secret has an id or a source, not both")
    if values.get("sharing") and kind != "cache":
        raise MountError(f"{shown}: sharing is for cache, not for {kind}")


def _check_target(shown: str, values: dict[str, str], folder: str | None) -> None:
    if values["type"] in ("secret", "ssh"):
        return
    target = values.get("target", "")
    if not target.startswith("/"):
        if folder is None:
            return
        target = posixpath.join(folder, target)
    if posixpath.normpath(target).strip("/") == "":
        raise MountError(f"{shown}: nothing is mounted at /; name a target")
