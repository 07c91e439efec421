"""The flags behind an instruction's keyword, e.g. `COPY --from=debian:12 …`, and where their values stand."""

from __future__ import annotations

from dataclasses import dataclass


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
