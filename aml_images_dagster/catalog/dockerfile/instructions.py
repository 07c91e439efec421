"""The instructions of a Dockerfile: continuations joined, comments left out, heredocs skipped.

The rules are those of BuildKit's parser (moby/buildkit, frontend/dockerfile/parser), which Docker's
legacy builder shares except for heredocs. Reference: https://docs.docker.com/reference/dockerfile/#format
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from aml_images_dagster.catalog.dockerfile.expansion import SPACES, ExpansionError, split_words
from aml_images_dagster.catalog.dockerfile.flags import Flag, read_flags
from aml_images_dagster.errors import BadInput

Place = Callable[[int], str]
"""Names the place of a line for a message, e.g. `base/ubuntu/Dockerfile:12`."""

BYTE_ORDER_MARK = "\ufeff"

KEYWORDS = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"}
    | {"MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
_TAKE_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_TAKE_PAIRS = frozenset({"ENV", "LABEL"})
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = frozenset({"check", "escape", "syntax"})
_KEYWORD = re.compile(r"\s*([^\t\v\f\r ]+)[\t\v\f\r ]*")
_BLANKS = re.compile(r"[\t\v\f\r ]+")
_SPACES = re.compile(f"[{SPACES}]+")
_LONGEST_LINE = 65_535
# Blanks that look like one and are none: they come from web pages and word processors.
_ODD_BLANK = re.compile("[\u00a0\u2000-\u200b\u202f\u205f\u3000\ufeff]")
_HEREDOC = re.compile(r"\d*<<(-?)([ \t]*)([^<]*)")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A heredoc.

    Attributes:
        name: What ends it.
        text: Its lines.
        is_quoted: Whether its name is quoted: then COPY and ADD expand no variables in it.
    """

    name: str
    text: str
    is_quoted: bool


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        keyword: In capitals; of `ONBUILD RUN …` it is RUN.
        on_build: The instruction is a trigger behind ONBUILD.
        line: Its first line, counted from 1.
        body: The instruction as one line, without comments and continuations.
        flags: `--name=value` behind the keyword.
        arguments: Index in `body` behind keyword and flags.
        heredocs: Its heredocs.
        continued: The text ended although a continuation was announced.
        segments: Where parts of `body` come from: (index in body, offset in the text), ascending.
    """

    keyword: str
    on_build: bool
    line: int
    body: str
    flags: tuple[Flag, ...]
    arguments: int
    heredocs: tuple[Heredoc, ...]
    continued: bool
    segments: tuple[tuple[int, int], ...]

    @property
    def text(self) -> str:
        """What stands behind keyword and flags."""
        return self.body[self.arguments :].strip(SPACES)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the text of `body[start:end]`; end is exclusive."""
        return self._offset(start), self._offset(end - 1) + 1

    def _offset(self, index: int) -> int:
        begin, offset = self.segments[bisect_right(self.segments, index, key=lambda segment: segment[0]) - 1]
        return offset + index - begin


def read_directives(text: str, place: Place) -> Mapping[str, str]:
    """The parser directives at the top, e.g. `{"escape": "`"}`. They end at the first other line.

    Raises:
        BadInput: A directive is given twice, or the escape character is neither backslash nor backtick.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix(BYTE_ORDER_MARK).split("\n"), 1):
        match = _DIRECTIVE.match(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            break
        if name in found:
            raise BadInput(
                f"the parser directive '# {name}=' is given twice", where=place(number), hint="Remove one of them."
            )
        if name == "escape" and match[2] not in ("\\", "`"):
            raise BadInput(
                f"the escape character is {match[2]!r}", where=place(number), hint="It can only be \\ or ` (backtick)."
            )
        found[name] = match[2]
    return found


def read_instructions(text: str, place: Place, escape: str) -> list[Instruction]:
    """Split a Dockerfile into instructions.

    Args:
        text: The whole file.
        place: Names a line in messages.
        escape: The escape character in force, see `read_directives`.

    Raises:
        BadInput: An unknown instruction, a heredoc without an end, or a line that is too long for the builder.
    """
    lines = text.split("\n")
    _check_lengths(lines, place)
    offsets = [0, *accumulate(len(line) + 1 for line in lines)]
    if lines[0].startswith(BYTE_ORDER_MARK):
        lines[0] = lines[0][1:]
        offsets[0] = 1
    found: list[Instruction] = []
    number = 0
    while number < len(lines):
        first = number
        content = lines[number].rstrip("\r")
        stripped = content.lstrip()
        number += 1
        if not stripped or stripped[0] == "#":
            continue
        part, continued = _cut_continuation(stripped, escape)
        parts = [part]
        length = len(part)
        segments = [(0, offsets[first] + len(content) - len(stripped))]
        while continued and number < len(lines):
            content = lines[number].rstrip("\r")
            stripped = content.lstrip()
            number += 1
            if not stripped or stripped[0] == "#":
                continue
            part, continued = _cut_continuation(content, escape)
            segments.append((length, offsets[number - 1]))
            parts.append(part)
            length += len(part)
        body = "".join(parts)
        try:
            keyword, on_build, flags, arguments = _head(body, place, first + 1)
        except BadInput as error:
            raise _odd_blank_in(lines, first, escape, place) or error from None
        if keyword in _TAKE_PAIRS:
            _check_pairs(keyword, body[arguments:], escape, place(first + 1))
        heredocs: list[Heredoc] = []
        if "<<" in body and keyword in _TAKE_HEREDOCS:
            for name, tabs, required, is_quoted in _heredocs(body):
                end = _heredoc_end(lines, number, name, tabs=tabs)
                if end is not None:
                    heredocs.append(Heredoc(name, "\n".join(lines[number:end]), is_quoted))
                    number = end + 1
                elif required:
                    raise BadInput(
                        f"the heredoc <<{name} has no end",
                        where=place(first + 1),
                        hint=f"End it with a line that holds nothing but {name}.",
                    )
        found.append(
            Instruction(
                keyword, on_build, first + 1, body, flags, arguments, tuple(heredocs), continued, tuple(segments)
            )
        )
    return found


def _cut_continuation(line: str, escape: str) -> tuple[str, bool]:
    """The line without its continuation character, and whether it had one. A doubled one is none."""
    cut = line.rstrip(" \t")
    if cut.endswith(escape) and cut[-2:-1] != escape:
        return cut[:-1], True
    return line, False


def _head(body: str, place: Place, line: int) -> tuple[str, bool, tuple[Flag, ...], int]:
    """Keyword, whether it stands behind ONBUILD, flags, and the index of what follows."""
    on_build = False
    start = 0
    while True:
        match = _KEYWORD.match(body, start)
        keyword = match[1].upper() if match else ""
        if match is None or keyword not in KEYWORDS or (on_build and keyword in ("FROM", "MAINTAINER", "ONBUILD")):
            shown = match[1] if match else body[start:].strip()
            raise BadInput(
                f"{'ONBUILD cannot be followed by' if on_build else 'unknown instruction'} {shown[:40]!r}",
                where=place(line),
                hint="If it belongs to the line before, that line needs a continuation character at its end.",
            )
        flags, arguments = read_flags(body, match.end())
        if keyword != "ONBUILD":
            return keyword, on_build, flags, arguments
        if flags:
            raise BadInput(
                f"ONBUILD has no flag --{flags[0].name}", where=place(line), hint="Write it behind the trigger."
            )
        on_build, start = True, arguments


def _check_pairs(keyword: str, arguments: str, escape: str, where: str) -> None:
    """Make sure that ENV or LABEL has `name=value …`, or the old form `name value`."""
    given = words(arguments.strip(SPACES), escape)
    if given and "=" not in given[0]:
        without_value = given[0] if len(_BLANKS.split(arguments.strip(SPACES), maxsplit=1)) < 2 else ""
    else:
        without_value = next((word for word in given if "=" not in word), "")
    if without_value:
        raise BadInput(
            f"{keyword}: {without_value[:40]} has no value", where=where, hint=f"Write {keyword} name=value."
        )


def words(text: str, escape: str) -> list[str]:
    """The words of ARG, ENV and LABEL: quotes and escapes keep blanks, and stay in the words.

    A quote that is not closed ends with the line; an escape character at its end is left out.
    """
    if not set("'\"" + escape) & set(text):
        return [word for word in _SPACES.split(text) if word]
    found: list[str] = []
    word, quote, quoted = "", "", False
    characters = iter(text)
    for char in characters:
        if not quote and char in SPACES:
            if word or quoted:
                found.append(word)
            word, quoted = "", False
            continue
        if char == escape and quote != "'":
            following = next(characters, "")
            word += char + following if following else ""
            continue
        if quote == char:
            quote = ""
        elif not quote and char in "'\"":
            quote, quoted = char, True
        word += char
    return [*found, word] if word or quoted else found


def plain_words(text: str) -> list[str]:
    """The words of an instruction in which quotes keep nothing together, such as COPY."""
    return _BLANKS.split(text) if text else []


class NotTextError(ValueError):
    """A JSON list has something in it that is no text."""


def json_list(text: str) -> list[str] | None:
    """The exec form of an instruction, a JSON list of texts; None when it is none. What follows it does not count.

    Raises:
        NotTextError: It is a list of other things.
    """
    if not text.startswith("["):
        return None

    def refuse(_: str) -> None:
        raise ValueError

    decoder = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=refuse)  # numbers of any length
    try:
        listed, _ = decoder.raw_decode(text)
    except RecursionError:
        raise NotTextError from None
    except ValueError:
        return None
    if not all(isinstance(item, str) for item in listed):
        raise NotTextError
    return list(listed)


def odd_blank(text: str) -> str:
    """The name of a character that looks like a blank and is none, e.g. `no-break space (U+00A0)`; empty without."""
    found = _ODD_BLANK.search(text)
    return f"{unicodedata.name(found[0]).lower()} (U+{ord(found[0]):04X})" if found else ""


def _odd_blank_in(lines: list[str], number: int, escape: str, place: Place) -> BadInput | None:
    """The fault of a line that is no instruction because it, or the end of the one before, has an odd blank."""
    before = lines[number - 1].rstrip("\r") if number else ""
    behind = before.rstrip(SPACES + "\u200b\ufeff")
    keyword = lines[number].lstrip(SPACES).partition(" ")[0]
    if behind.endswith(escape) and (name := odd_blank(before[len(behind) :])):
        number, what = number - 1, f"a {name} stands behind the continuation character"
    elif name := odd_blank(keyword):
        what = f"a {name} stands in {keyword[:40]!r}"
    else:
        return None
    return BadInput(what, where=place(number + 1), hint="Replace it with a blank; only blanks and tabs count.")


def _check_lengths(lines: list[str], place: Place) -> None:
    for number, line in enumerate(lines, 1):
        if len(line) * 4 > _LONGEST_LINE and len(line.encode("utf-8", "surrogatepass")) > _LONGEST_LINE:
            raise BadInput(
                f"the line has more than {_LONGEST_LINE:,} bytes, which no builder reads",
                where=place(number),
                hint="Divide it with continuation characters, or put its content into a file.",
            )


def is_heredoc(word: str) -> bool:
    """Whether a word of COPY or ADD stands for a heredoc."""
    found = _HEREDOC.fullmatch(word)
    try:
        return found is not None and not found[2] and len(split_words(found[3], keep_quoting=False)) == 1
    except ExpansionError:
        return False


def _heredocs(body: str) -> list[tuple[str, bool, bool, bool]]:
    """Heredocs that a line announces: name, whether tabs before the end are ignored, it must end, it is quoted.

    In the exec form, a JSON list, all strings are quoted, so none is found there.
    `<< NAME` with a blank is a heredoc only for newer BuildKit, and may as well be a shift in arithmetic:
    it counts when its end is found.
    """
    try:
        words = split_words(body, keep_quoting=True)
        matches = [match for word in words if (match := _HEREDOC.fullmatch(word))]
        names = [split_words(match[3], keep_quoting=False) for match in matches]
    except ExpansionError:
        return []
    return [
        (name[0], match[1] == "-", not match[2], bool(set("'\"") & set(match[3])))
        for match, name in zip(matches, names, strict=True)
        if len(name) == 1
    ]


def _heredoc_end(lines: list[str], start: int, name: str, *, tabs: bool) -> int | None:
    for number in range(start, len(lines)):
        line = lines[number].rstrip("\r")
        if (line.lstrip("\t") if tabs else line) == name:
            return number
    return None
