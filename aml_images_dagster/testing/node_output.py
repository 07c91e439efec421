"""What a node prints: cut into lines as it comes, and kept up to a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LONGEST_LINE = 64 * 1024
"""Bytes after which a line is cut, so that output without line ends cannot fill the memory."""


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Cut a stream of bytes into lines without their ends; of a progress bar only the last state stays."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        *whole, rest = rest.split(b"\n")
        for line in whole:
            yield _text(line)
        while len(rest) > _LONGEST_LINE:
            yield _text(rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return printable(line.decode(errors="replace").rstrip("\r").rpartition("\r")[2])


class KeptOutput:
    """The last lines of a node's output.

    Args:
        limit: How many characters to keep.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0

    def add(self, line: str) -> None:
        """Take in one line."""
        self._lines.append(line)
        self._size += len(line) + 1
        if self._size > 2 * self._limit:
            self._trim()

    def _trim(self) -> None:
        """Forget the oldest lines; called rarely, because it moves all that stay."""
        first = 0
        while self._size > self._limit and first < len(self._lines):
            self._size -= len(self._lines[first]) + 1
            first += 1
        del self._lines[:first]
        self._dropped += first

    def text(self) -> str:
        """What was kept; says in its first line when something is missing."""
        if self._size > self._limit:
            self._trim()
        head = [f"[{self._dropped} lines before this one were not kept]"] if self._dropped else []
        return "".join(f"{line}\n" for line in head + self._lines)
