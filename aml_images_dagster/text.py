"""Text for people: numbers of things, sizes; external text without control characters, and as code in Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def counted(number: int, thing: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def size_in_words(size: int) -> str:
    """A size in bytes for people, with prefixes of powers of 1000: `151 B`, `32.0 kB`, `812 MB`, `3.12 GB`."""
    if size < 1000:
        return f"{size} B"
    for factor, unit in ((10**3, "kB"), (10**6, "MB")):
        if size < 999.5 * factor:
            value = size / factor
            return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"
    return f"{size / 10**9:.2f} GB"


def first_of(texts: Collection[str], most: int, separator: str = ", ") -> str:
    """`a, b and 3 more`: the first of several texts, and how many others there are.

    Args:
        texts: The texts.
        most: How many are shown at most.
        separator: What is between them; `; ` gives `a; b; and 3 more`.
    """
    shown = separator.join([*texts][:most])
    more = len(texts) - most
    return f"{shown}{'' if separator == ', ' else separator.rstrip()} and {more} more" if more > 0 else shown


# Colours and "erase the rest of the line", as compilers print them: they change how text looks, and nothing else.
_STYLE = r"\x1b\[[0-9;:]*[mK]"
# Controls but for tab and line feed; marks of direction; what is invisible but for joiners, which emoji and scripts
# need; halves of surrogate pairs. Source: https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
_HIDDEN = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_NOT_SHOWN = re.compile(f"{_STYLE}|\r(?=\n)|({_HIDDEN})")


def printable(text: str) -> str:
    r"""External text that can be shown anywhere: control characters are shown as escapes such as `\x1b`.

    That is controls and escape sequences, which terminals obey; marks that change the direction of text; characters
    without a shape; and bytes of file names that are no UTF-8. Colours go, line feeds and tabs stay.
    """
    return _NOT_SHOWN.sub(_escaped, text)


def printable_line(text: str) -> str:
    """The same for what has to stay in one line, such as the name of a file: line feeds and tabs show, too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def code(text: str) -> str:
    """Text as Markdown code in a line, where mentions, links and HTML mean nothing; line breaks become blanks."""
    line = " ".join(text.split())
    ticks = "`" * (1 + _longest_run(line))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def code_block(text: str, language: str = "") -> str:
    """Text as a block of Markdown code."""
    ticks = "`" * max(3, 1 + _longest_run(text))
    return f"{ticks}{language}\n{text}\n{ticks}"


def _escaped(found: re.Match[str]) -> str:
    if found[1] is None:
        return ""
    number = ord(found[1])
    if 0xDC80 <= number <= 0xDCFF:  # what Python makes of a byte that is no UTF-8
        number -= 0xDC00
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
