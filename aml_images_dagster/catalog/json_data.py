"""JSON as data, with the place of everything in the file and every mistake in its syntax.

Python's reader stops at the first mistake. Here the text is corrected as it was probably meant, and read on; the result
only serves to find further mistakes. Source of JSON: https://www.rfc-editor.org/rfc/rfc8259.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aml_images_dagster.messages import lower_first

if TYPE_CHECKING:
    from collections.abc import Callable

Location = tuple[str | int, ...]
"""The way from the root of a file to a value: keys of objects and indexes of lists."""

Remark = tuple[int | None, str]
"""A line of the file, if there is one, and what is wrong there."""

# No key takes a number of more digits; Python converts no text of more than 4,300.
MOST_DIGITS = 300
_MOST = 50
_COMMENT = re.compile(r"//[^\n]*|#[^\n]*|/\*[\s\S]*?\*/")
_SINGLE_QUOTED = re.compile(r"'([^'\\\"\n]*)'")
_WORD = re.compile(r"[A-Za-z_$][\w.$-]*")
_MEANT = {"True": "true", "False": "false", "None": "null"}
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|([\[\]{}])')
_CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Lines:
    """Where things are in a file.

    Attributes:
        lines: The line, counted from 1, of every value; in objects that of its key.
        remarks: What is wrong in the text although a reader accepts it: keys that are there twice, of which a reader
            sees only the last, and numbers that it cannot hold.
        not_held: Where those numbers are; the data have 0 in their place.
    """

    lines: dict[Location, int] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    not_held: set[Location] = field(default_factory=set)

    def line(self, location: Location) -> int | None:
        """The line of a value, or of the innermost value around it that exists."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location)

    def add_key(self, location: Location, line: int) -> None:
        """Remember the key of an object."""
        if location in self.lines:
            self.remarks.append((line, f"{written(location)}: the key is there twice"))
        self.lines[location] = line

    def check_number(self, number: str, location: Location, line: int) -> bool:
        """Whether a number can be held; one that cannot is remarked upon."""
        digits = sum(map(str.isdigit, number))
        if digits > MOST_DIGITS:
            fault = f"a number of {digits:,} digits is too long"
        elif not math.isfinite(float(number)):
            fault = f"{number} is not a finite number"
        else:
            return True
        self.not_held.add(location)
        self.remarks.append((line, f"{written(location)}: {fault}" if location else fault))
        return False


class UnreadableError(Exception):
    """The text is none of its format; `args` are remarks."""


def written(location: Location) -> str:
    """A location as people write it: `scenarios[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")


@dataclass(frozen=True)
class _Correction:
    """What is wrong at a place, and what is probably meant there."""

    what: str
    start: int
    end: int
    instead: str


def corrected(text: str, load: Callable[[str], Any]) -> tuple[str | None, list[Remark]]:
    """A text as it was probably meant, and every mistake that was in it.

    Args:
        text: The text, with mistakes.
        load: Reads JSON, and raises `json.JSONDecodeError` at the first mistake.

    Returns:
        The text, with the same lines, or None where it cannot be told what was meant; and the mistakes up to there.
    """
    remarks: list[Remark] = []
    done: list[tuple[int, int]] = []
    now = text
    while len(remarks) < _MOST:
        try:
            load(now)
        except json.JSONDecodeError as error:
            correction = _correction(now, error)
            start = correction.start if correction else error.pos
            for place, added in reversed(done):
                start -= added if start > place else 0
            line, column = text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
            what = correction.what if correction else lower_first(error.msg)
            remarks.append((line, f"not valid JSON: {what}, at column {column}"))
            if correction is None:
                break
            now = now[: correction.start] + correction.instead + now[correction.end :]
            done.append((correction.start, len(correction.instead) - (correction.end - correction.start)))
        else:
            return now, remarks
    return None, remarks


def _correction(text: str, error: json.JSONDecodeError) -> _Correction | None:
    place, char = error.pos, text[error.pos : error.pos + 1]
    if comment := _COMMENT.match(text, place):
        lines = "\n" * comment[0].count("\n")
        return _Correction("there are no comments in JSON", place, comment.end(), lines)
    if quoted := _SINGLE_QUOTED.match(text, place):
        return _Correction(f'write "{quoted[1]}", with double quotes', place, quoted.end(), f'"{quoted[1]}"')
    if error.msg.startswith("Extra data"):
        return _Correction("something follows after the end", place, len(text), "\n" * text.count("\n", place))
    if error.msg.startswith("Expecting ',' delimiter"):
        if not text[place:].strip():
            return _unclosed(text)
        return _Correction("a comma is missing before this", place, place, ",") if _begins_value(text, place) else None
    if error.msg.startswith("Expecting ':' delimiter"):
        return _Correction("a colon is missing before this", place, place, ":") if _begins_value(text, place) else None
    if error.msg.startswith("Invalid \\escape"):
        place = text.find("\\", max(0, place - 1))
        return _Correction("write \\\\ for a backslash", place, place, "\\")
    if char == ",":
        return _Correction("there is a comma too many", place, place + 1, "")
    if char and char in "]}":
        comma = len(text[:place].rstrip()) - 1
        return _Correction("there is a comma too many", comma, comma + 1, "") if text[comma] == "," else None
    if word := _WORD.match(text, place):
        meant = _MEANT.get(word[0])
        what = f"write {meant}, not {word[0]}" if meant else f"text needs double quotes: {word[0]}"
        return _Correction(what, place, word.end(), meant or f'"{word[0]}"')
    return None


def _begins_value(text: str, place: int) -> bool:
    return text.startswith(tuple('"[{-0123456789'), place) or _WORD.match(text, place) is not None


def _unclosed(text: str) -> _Correction | None:
    """What is missing at the end."""
    opened: list[str] = []
    for bracket in filter(None, (found[1] for found in _BRACKET_OR_STRING.finditer(text))):
        if bracket in _CLOSING:
            opened.append(_CLOSING[bracket])
        elif not opened or opened.pop() != bracket:
            return None
    missing, end = "".join(reversed(opened)), len(text.rstrip())
    return _Correction(f"{missing} is missing at the end", end, end, missing) if missing else None
