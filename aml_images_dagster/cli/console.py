"""The console that commands print on."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, TypeVar

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from aml_images_dagster.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, TextIO

    from rich.console import ConsoleOptions, RenderableType, RenderResult
    from rich.table import Column

_WIDTH_OF_A_FILE = 200
_UNBROKEN = 10_000
_LEAST = 10
"""Columns of a cell at the least."""
_NARROW = 100
"""Columns below which a table is too narrow for numbers, digests and names side by side."""
_MOST_REUSED = 20
"""Images without work that a table of images has."""

T = TypeVar("T")


class _PrintableConsole(Console):
    """Prints styles as escape sequences, and those that are in texts as text; breaks lines between words only.

    Texts of strangers are made printable where they come in; this is for what nobody has thought of, and for records
    of earlier versions. A word that is wider than the terminal, such as a digest or a path, stays whole: the terminal
    continues it in the next line, and it is copied as one.

    Args:
        breaks_lines: Whether a text that is wider than the console continues in the next line.
        options: Those of `Console`.
    """

    def __init__(self, *, breaks_lines: bool, **options: Any) -> None:
        super().__init__(**options)
        self.breaks_lines = breaks_lines

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """See `Console`: whatever is printed comes through here."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

    @override
    def print(
        self, *objects: Any, markup: bool | None = None, soft_wrap: bool | None = None, crop: bool = False, **rest: Any
    ) -> None:
        """See `Console`. With `soft_wrap` no line is broken: what others have written, and commands, stay whole."""
        if not soft_wrap:
            width = None if self.breaks_lines else sys.maxsize
            objects = tuple(
                _Words(self.render_str(o, markup=markup is not False), width) if isinstance(o, str) else o
                for o in objects
            )
        super().print(*objects, markup=markup, soft_wrap=soft_wrap, crop=crop, **rest)


class _Words:
    """A text of whole words, in lines of a width; None for that of the console."""

    def __init__(self, text: Text, width: int | None) -> None:
        self._text = text
        self._width = width

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        yield from _lines(self._text, self._width or options.max_width)


def _lines(text: Text, width: int) -> Iterator[Text]:
    """A text in lines of a width, broken between words and indented alike; a word that is wider stays whole."""
    for line in text.split("\n", allow_blank=True):
        indent = len(line.plain) - len(line.plain.lstrip(" "))
        breaks, start, room = [], 0, width
        words = re.finditer(r"\S+", line.plain) if cell_len(line.plain) > width else ()
        for word in words:
            if cell_len(line.plain[start : word.end()]) > room and line.plain[start : word.start()].strip():
                start, room = word.start(), width - indent
                breaks.append(start)
        for number, part in enumerate(line.divide(breaks)):
            part.rstrip()
            whole = Text(" " * indent if number else "", no_wrap=True, overflow="ignore")
            yield whole.append_text(part)


def is_narrow(console: Console) -> bool:
    """Whether things have to stand below each other."""
    return console.width < _NARROW


def open_console(
    *, stderr: bool = False, file: TextIO | None = None, quiet: bool = False, unbroken: bool = False
) -> Console:
    """A console as wide as the terminal; wide in a pipe or a file, so that tables stay a line per row.

    COLUMNS, where it is set, decides in both cases.

    Args:
        stderr: Print to standard error, not to standard output.
        file: Print to this in place of both.
        quiet: Print nothing.
        unbroken: Print each line as long as it is, and leave it to the terminal.
    """
    target = file or (sys.stderr if stderr else sys.stdout)
    is_told = os.environ.get("COLUMNS", "").isdigit()
    has_width = is_told or target.isatty()
    console = _PrintableConsole(
        breaks_lines=has_width, stderr=stderr, file=file, quiet=quiet, highlight=False, emoji=False
    )
    if unbroken:
        console.width = _UNBROKEN
    elif not has_width:
        console.width = _WIDTH_OF_A_FILE
    elif console.is_dumb_terminal:  # which rich takes for one of 80 columns and 25 lines
        size = shutil.get_terminal_size() if is_told else os.get_terminal_size(target.fileno())
        if all(size):
            console.size = ConsoleDimensions(*size)
    return console


def print_error(error: Exception) -> None:
    """Print the message of an error to standard error."""
    open_console(stderr=True).print(f"aml-images: {error}", markup=False)


def line_by_line(console: Console) -> Callable[[str], None]:
    """What prints a line that has no markup."""
    return lambda line: console.print(printable(line), markup=False)


def print_highlighted(console: Console, text: str, language: str) -> None:
    """Print a file or a diff in colours, each line as it is."""
    from rich.syntax import Syntax  # it takes a while to import, and few commands need it

    console.print(Syntax("", language, background_color="default").highlight(text.rstrip("\n")), soft_wrap=True)


class Facts:
    """Names and values, a line for each; what does not fit into it continues below the value.

    Args:
        facts: Name and value; what has no value is left out.
        indent: Blanks before each line.
    """

    def __init__(self, facts: Iterable[tuple[str, RenderableType]], indent: int = 1) -> None:
        self._facts = tuple(facts)
        self._indent = indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See `rich.console`."""
        margin = self._indent + max((len(name) for name, _ in self._facts), default=0) + 2
        for name, value in self._facts:
            text = console.render_str(value) if isinstance(value, str) else Text(str(value))
            lines = [line for line in _lines(text, max(options.max_width - margin, _LEAST)) if line.plain]
            for number, line in enumerate(lines):
                label = Text(f"{' ' * self._indent}{'' if number else name}".ljust(margin), style="dim")
                yield Text(no_wrap=True, overflow="ignore").append_text(label).append_text(line)


class NameTable(Table):
    """A table whose first column is a name that people copy: it is never broken, and the others make room for it.

    Where there is no room, on a narrow console or for long words, each row is a paragraph, one line for each cell.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See `rich.console`."""
        widths = self._widths(console, options)
        if widths is not None:
            for column, width in zip(self.columns, widths, strict=True):
                column.width = width
            rows = super().__rich_console__(console, options.update(max_width=sum(widths) + self._gaps))
            yield from rows if console.is_terminal else _without_trailing_blanks(rows)
            return
        # A column without a heading may be there for the eye only.
        _, *shown = [column for column in self.columns if column.header or _says_something(column.cells)]
        for number, name in enumerate(self.columns[0].cells):
            text = console.render_str(name) if isinstance(name, str) else Text(str(name))
            text.no_wrap, text.overflow = True, "ignore"
            yield text
            yield Facts(((str(column.header), [*column.cells][number]) for column in shown), indent=2)

    def _widths(self, console: Console, options: ConsoleOptions) -> list[int] | None:
        """The width of each column, so that no word has to be broken; None where there is no room for that.

        What the longest words leave goes to those that want least first. In a file a row is a line in any case.
        """
        least, most = zip(*(self._measured(console, options, column) for column in self.columns), strict=True)
        if isinstance(console, _PrintableConsole) and not console.breaks_lines:
            return [*most]
        widths = [*least]
        room = options.max_width - sum(widths) - self._gaps
        if options.max_width < _NARROW or room < 0:
            return None
        wanted = [width - enough for enough, width in zip(least, most, strict=True)]
        for number, at in enumerate(sorted(range(len(widths)), key=wanted.__getitem__)):
            more = min(wanted[at], room // (len(widths) - number))
            widths[at] += more
            room -= more
        return widths

    @property
    def _gaps(self) -> int:
        _, right, _, left = self.padding
        return len(self.columns) * (left + right)

    @staticmethod
    def _measured(console: Console, options: ConsoleOptions, column: Column) -> Measurement:
        """From the longest word of a column, or line if it is not to be broken, to its longest line."""
        cells = (console.render_str(cell) if isinstance(cell, str) else cell for cell in (column.header, *column.cells))
        each = [Measurement.get(console, options.update(max_width=_UNBROKEN), cell) for cell in cells]
        longest = max(one.maximum for one in each)
        return Measurement(longest if column.no_wrap else max(one.minimum for one in each), longest)


def _without_trailing_blanks(rows: RenderResult) -> Iterator[Segment]:
    """The lines of a table, without what fills the last cell up to the width of its column."""
    for line in Segment.split_lines(row for row in rows if isinstance(row, Segment)):
        while line and not line[-1].text.rstrip(" "):
            line.pop()
        if line:
            text, style, control = line.pop()
            line.append(Segment(text.rstrip(" "), style, control))
        yield from line
        yield Segment.line()


def _says_something(cells: Iterable[RenderableType]) -> bool:
    return any(char.isalnum() for cell in cells for char in str(cell))


def new_table(name: str, *headings: str) -> NameTable:
    """An empty table of names, and what there is to say of each."""
    table = NameTable(box=None, header_style="bold")
    table.add_column(name, no_wrap=True)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def rows_worth_showing(images: Sequence[T], is_unchanged: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    """Images for a table: those that are reused as they are only if they are few enough for the others to be seen.

    Returns:
        The images, and those that are left out.
    """
    unchanged = [image for image in images if is_unchanged(image)]
    if len(unchanged) <= _MOST_REUSED:
        return [*images], []
    return [image for image in images if not is_unchanged(image)], unchanged


def left_out_in_words(images: int, untested: int, rows: int) -> str:
    """Images that a table leaves out, as a subject: `980 more images`, `21 images, 3 of them not tested,`."""
    more = counted(images, "more image" if rows else "image")
    return f"{more}, {untested} of them not tested," if untested else more
