"""Patterns of paths, as the builder has them.

COPY and ADD match with Go's filepath.Match, https://pkg.go.dev/path/filepath#Match. What is sent to the builder, and
what .dockerignore leaves out, is matched by https://github.com/moby/patternmatcher. There patterns become regular
expressions, and what is no pattern of a file name keeps its meaning in them: where a `*` is, `|` is an alternative,
to the anchors at both ends as well. `a|b*` is all that begins with a, or has a last part with a b.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ESCAPED = ".+()$"
_QUANTIFIER = re.compile(r"\{\d{1,4}(?:,\d{0,4})?\}")
_ESCAPES = {**{letter: f"\\{letter}" for letter in "dDsSwWbBAafnrtv"}, "z": r"\Z"}


class GlobError(ValueError):
    """A pattern that Go refuses."""


@lru_cache(maxsize=4096)
def glob_expression(glob: str) -> str:
    """A pattern as a regular expression, not anchored.

    Raises:
        GlobError: It has a class that is not closed, or ends with a backslash.
    """
    found = []
    at = 0
    while at < len(glob):
        char = glob[at]
        if char == "*":
            at = len(glob) - len(glob[at:].lstrip("*"))
            found.append("[^/]*")
            continue
        if char == "[":
            expression, at = _class(glob, at + 1)
            found.append(expression)
            continue
        if char == "\\":
            at += 1
            char = glob[at : at + 1]
            if not char:
                raise GlobError("a backslash at its end escapes nothing")
            found.append(re.escape(char))
        else:
            found.append("[^/]" if char == "?" else re.escape(char))
        at += 1
    return "".join(found)


@lru_cache(maxsize=1024)
def path_matcher(glob: str) -> Callable[[str], bool]:
    """What a pattern of a client or of .dockerignore matches; a path has no `/` at its ends.

    Raises:
        GlobError: It has a class that is not closed, or is wrong as a regular expression.
    """
    glob_expression(glob)
    if not set("*?[]\\") & set(glob):
        return lambda path: path == glob
    if glob.endswith("**") and not set("*?[]\\") & set(glob[:-2]):
        start = glob[:-2]
        return lambda path: path.startswith(start)
    if glob.startswith("**") and not set("*?[]\\") & set(glob[2:]):
        end = glob[2:]
        return lambda path: path.endswith(end) or (end.startswith("/") and path == end[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of brackets in classes
        try:
            expression = re.compile(rf"\A{_expression(glob)}\Z", re.ASCII)
        except re.error as error:
            raise GlobError(str(error)) from None
    return lambda path: expression.search(path) is not None


def _expression(glob: str) -> str:
    found = []
    at = 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*" and glob.startswith("*", at):
            at += 1
            at += glob.startswith("/", at)
            found.append(".*" if at == len(glob) else "(?:.*/)?")
        elif char == "*":
            found.append("[^/]*")
        elif char == "?":
            found.append("[^/]")
        elif char == "\\":
            found.append(_escape(glob[at : at + 1]))
            at += 1
        elif char == "{":
            found.append("{" if _QUANTIFIER.match(glob, at - 1) else r"\{")
        else:
            found.append(f"\\{char}" if char in _ESCAPED else char)
    return "".join(found)


def _escape(char: str) -> str:
    if char.isascii() and char.isalnum():
        if char not in _ESCAPES:
            raise GlobError(f"\\{char} is no escape")
        return _ESCAPES[char]
    return re.escape(char)


def _class(glob: str, at: int) -> tuple[str, int]:
    """A class as a regular expression, and what index is behind it."""
    is_negated = glob.startswith("^", at)
    at += is_negated
    ranges: list[str] = []
    while True:
        if ranges and glob.startswith("]", at):
            break
        first, at = _of_class(glob, at)
        last = first
        if glob.startswith("-", at):
            last, at = _of_class(glob, at + 1)
        ranges.append(f"{re.escape(first)}-{re.escape(last)}" if first <= last else "")
    inside = "".join(ranges)
    if not inside:
        return ("." if is_negated else "(?!)"), at + 1
    return f"[{'^' if is_negated else ''}{inside}]", at + 1


def _of_class(glob: str, at: int) -> tuple[str, int]:
    at += glob.startswith("\\", at)
    char = glob[at : at + 1]
    if not char or (char in "-]" and glob[at - 1] != "\\"):
        raise GlobError("a class in brackets is not closed, or wrong")
    if at + 1 == len(glob):
        raise GlobError("a class in brackets is not closed, or wrong")
    return char, at + 1
