"""The console that commands print on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTH_OF_A_FILE = 200


def open_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; wide in a pipe or a file, so that tables stay a line per row.

    COLUMNS, where it is set, decides in both cases.
    """
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    is_told = os.environ.get("COLUMNS", "").isdigit()
    return Console(stderr=stderr, highlight=False, width=None if is_terminal or is_told else _WIDTH_OF_A_FILE)


def line_by_line(console: Console) -> Callable[[str], None]:
    """What prints a line that others have written, as it is."""
    return lambda line: console.print(line, markup=False, soft_wrap=True)


def new_table(name: str, *headings: str) -> Table:
    """An empty table. The first column, a name that people copy, is never broken; the others make room for it."""
    table = Table(box=None, header_style="bold")
    table.add_column(name, no_wrap=True)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
