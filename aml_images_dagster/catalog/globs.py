"""Patterns of file names as Go's filepath.Match has them: https://pkg.go.dev/path/filepath#Match."""

from __future__ import annotations

import re
from functools import lru_cache


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
