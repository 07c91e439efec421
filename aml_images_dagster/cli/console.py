"""The console that commands print on."""

from __future__ import annotations

import sys

from rich.console import Console

_WIDTH_OF_A_FILE = 200


def open_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; wide in a pipe or a file, so that tables stay a line per row."""
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if is_terminal else _WIDTH_OF_A_FILE)
