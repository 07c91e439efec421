"""Words for people: numbers of things, and text of others in Markdown as code."""

from __future__ import annotations

import re


def counted(number: int, thing: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


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


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
