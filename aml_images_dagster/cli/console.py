"""The console that commands print on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from rich.console import ConsoleOptions, RenderableType, RenderResult

_WIDTH_OF_A_FILE = 200
_LEAST = 10
"""Columns of a cell at the least."""
_NARROW = 100
"""Columns below which a table is too narrow for numbers, digests and names side by side."""


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


class NameTable(Table):
    """A table whose first column is a name that people copy: it is never broken, and the others make room for it.

    On a narrow console there is no room: each row is a paragraph of its own then, one line for each cell.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See `rich.console`."""
        if options.max_width >= _NARROW:
            yield from super().__rich_console__(console, options)
            return
        cells = [list(column.cells) for column in self.columns]
        headings = [str(column.header) for column in self.columns]
        margin = max(map(len, headings), default=0) + 2
        for name, *rest in zip(*cells, strict=True):
            yield _text(console, name)
            for heading, cell in zip(headings[1:], rest, strict=True):
                lines = _text(console, cell).wrap(console, max(options.max_width - margin - 2, _LEAST))
                for number, line in enumerate(line for line in lines if line.plain):
                    yield Text(f"  {'' if number else heading}".ljust(margin + 2), style="dim") + line


def _text(console: Console, cell: RenderableType) -> Text:
    """A cell, to be broken between words; a word only where it is wider than the console."""
    text = console.render_str(cell) if isinstance(cell, str) else Text(str(cell))
    text.overflow = "fold"
    return text


def new_table(name: str, *headings: str) -> NameTable:
    """An empty table of names, and what there is to say of each."""
    table = NameTable(box=None, header_style="bold")
    table.add_column(name, no_wrap=True)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
