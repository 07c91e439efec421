"""The instructions of a Dockerfile: continuations joined, comments left out, heredocs skipped.

The rules are those of BuildKit's parser (moby/buildkit, frontend/dockerfile/parser), which Docker's
legacy builder shares except for heredocs. Reference: https://docs.docker.com/reference/dockerfile/#format
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from aml_images_dagster.catalog.dockerfile.expansion import ExpansionError, split_words
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
# Words in which quotes and escapes keep blanks; a quote that is not closed ends with the line.
_WORD = r"""(?:E.|'(?:E.|[^'E])*(?:'|E?$)|"(?:E.|[^"E])*(?:"|E?$)|[^\s'"E]|E$)+"""
_ARGUMENT = {escape: re.compile(_WORD.replace("E", re.escape(escape)), re.DOTALL) for escape in ("\\", "`")}
_HEREDOC = re.compile(r"\d*<<(-?)([ \t]*)([^<]*)")


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
        heredocs: Names of its heredocs.
        continued: The text ended although a continuation was announced.
        segments: Where parts of `body` come from: (index in body, offset in the text), ascending.
    """

    keyword: str
    on_build: bool
    line: int
    body: str
    flags: tuple[Flag, ...]
    arguments: int
    heredocs: tuple[str, ...]
    continued: bool
    segments: tuple[tuple[int, int], ...]

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
        BadInput: An unknown instruction, or a heredoc without an end.
    """
    lines = text.split("\n")
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
        keyword, on_build, flags, arguments = _head(body, place, first + 1)
        if keyword in _TAKE_PAIRS:
            _check_pairs(keyword, body[arguments:], escape, place(first + 1))
        heredocs: list[str] = []
        if "<<" in body and keyword in _TAKE_HEREDOCS:
            for name, tabs, required in _heredocs(body):
                end = _heredoc_end(lines, number, name, tabs=tabs)
                if end is not None:
                    heredocs.append(name)
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
        on_build, start = True, arguments


def _check_pairs(keyword: str, arguments: str, escape: str, where: str) -> None:
    """Make sure that ENV or LABEL has `name=value …`, or the old form `name value`."""
    # An escape character that nothing follows is no word.
    words = [word for word in _ARGUMENT[escape].findall(arguments.strip()) if word != escape]
    if words and "=" not in words[0]:
        without_value = words[0] if len(arguments.split(maxsplit=1)) < 2 else ""
    else:
        without_value = next((word for word in words if "=" not in word), "")
    if without_value:
        raise BadInput(
            f"{keyword}: {without_value[:40]} has no value", where=where, hint=f"Write {keyword} name=value."
        )


def _heredocs(body: str) -> list[tuple[str, bool, bool]]:
    """Heredocs that a line announces: name, whether tabs before the end are ignored, whether it must end.

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
        (name[0], match[1] == "-", not match[2]) for match, name in zip(matches, names, strict=True) if len(name) == 1
    ]


def _heredoc_end(lines: list[str], start: int, name: str, *, tabs: bool) -> int | None:
    for number in range(start, len(lines)):
        line = lines[number].rstrip("\r")
        if (line.lstrip("\t") if tabs else line) == name:
            return number
    return None
