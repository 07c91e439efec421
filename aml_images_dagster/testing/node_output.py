"""The output of a node: split into lines as it arrives, and kept up to a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.bounded import Lines
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Cut a stream of bytes into lines without their ends; of a progress bar only the last state stays."""
    output = Lines()
    for chunk in chunks:
        yield from map(_last_state, output.take(chunk))
    yield from map(_last_state, output.rest())


def _last_state(line: str) -> str:
    return printable(line.rstrip("\r").rpartition("\r")[2])


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
