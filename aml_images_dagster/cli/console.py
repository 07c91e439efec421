"""The console that commands print on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment
from rich.table import Table

from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from rich.console import ConsoleOptions, RenderableType

_WIDTH_OF_A_FILE = 200


class _PrintableConsole(Console):
    """Prints styles as escape sequences, and those that are in texts as text.

    Texts of strangers are made printable where they come in; this is for what nobody has thought of, and for records
    of earlier versions.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """See `Console`: whatever is printed comes through here."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


def open_console(*, stderr: bool = False, file: TextIO | None = None, quiet: bool = False) -> Console:
    """A console as wide as the terminal; wide in a pipe or a file, so that tables stay a line per row.

    COLUMNS, where it is set, decides in both cases.

    Args:
        stderr: Print to standard error, not to standard output.
        file: Print to this in place of both.
        quiet: Print nothing.
    """
    is_terminal = (file or (sys.stderr if stderr else sys.stdout)).isatty()
    is_told = os.environ.get("COLUMNS", "").isdigit()
    width = None if is_terminal or is_told else _WIDTH_OF_A_FILE
    return _PrintableConsole(stderr=stderr, file=file, quiet=quiet, highlight=False, emoji=False, width=width)


def line_by_line(console: Console) -> Callable[[str], None]:
    """What prints a line that others have written, as it is."""
    return lambda line: console.print(printable(line), markup=False, soft_wrap=True)


def new_table(name: str, *headings: str) -> Table:
    """An empty table. The first column, a name that people copy, is never broken; the others make room for it."""
    table = Table(box=None, header_style="bold")
    table.add_column(name, no_wrap=True)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
