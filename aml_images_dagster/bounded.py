"""Reading external data with a size limit: bytes, lines, and whole logs."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LONGEST_LINE = 64 * 1024
"""Characters after which a line is cut, so that output without line ends cannot fill the memory."""
LONGEST_LOG = 64 * 2**20
"""Characters of one log that are passed on, so that output without end cannot fill the disk."""


class TooLong(ValueError):  # noqa: N818
    """There is more than may be read.

    Attributes:
        longest: The limit, in bytes.
    """

    def __init__(self, longest: int) -> None:
        super().__init__(f"more than {longest:,} bytes")
        self.longest = longest


def joined(pieces: Iterable[bytes], longest: int) -> bytes:
    """All pieces as one; no piece is asked for after the one that is too much.

    Args:
        pieces: The content.
        longest: Bytes that it may have.

    Raises:
        TooLong: It has more.
    """
    read = bytearray()
    for piece in pieces:
        if len(read) + len(piece) > longest:
            raise TooLong(longest)
        read += piece
    return bytes(read)


def beginning(pieces: Iterable[bytes], longest: int) -> bytes:
    """The first bytes of the content; no piece is asked for after the one that has the last of them."""
    read = bytearray()
    for piece in pieces:
        read += piece[: longest - len(read)]
        if len(read) >= longest:
            break
    return bytes(read)


class Lines:
    """Cuts text that comes in pieces into lines without their ends.

    A line that is too long is cut, so that no more than one line is held, whatever comes.

    Args:
        longest: Characters of one line.
    """

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._line = ""
        # A piece may end within a character.
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def take(self, piece: str | bytes) -> Iterator[str]:
        """The lines that end with a piece."""
        *ends, rest = (piece if isinstance(piece, str) else self._decode(piece)).split("\n")
        for end in ends:
            yield from self._longer(end)
            yield self._line
            self._line = ""
        yield from self._longer(rest)

    def rest(self) -> Iterator[str]:
        """The last line, if it has no end."""
        line, self._line = self._line + self._decode(b"", True), ""
        if line:
            yield line

    def _longer(self, text: str) -> Iterator[str]:
        """Let the line that has not ended grow; gives what is too much for one line."""
        text = self._line + text
        whole = max(0, len(text) - 1) // self._longest * self._longest
        for begin in range(0, whole, self._longest):
            yield text[begin : begin + self._longest]
        self._line = text[whole:]


def up_to(longest: int, write: Callable[[str], None]) -> Callable[[str], None]:
    """A log that passes lines on until they are too many; then it says so once.

    Args:
        longest: Characters of all lines.
        write: Receives the lines.
    """
    left = longest

    def log(line: str) -> None:
        nonlocal left
        if left >= 0:
            left -= len(line) + 1
            write(line if left >= 0 else f"[the log has more than {longest:,} characters; the rest is left out]")

    return log
