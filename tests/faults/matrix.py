"""The matrix: fault, what it left, who removed it, how long that took. Printed at the end of a run of pytest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

PROPERTY = "fault"
FILE = "FAULT_MATRIX"
"""Environment variable: a page with two marks, between which the matrix is written. Rows of faults that were not run
stay."""


class Row(NamedTuple):
    """What was seen of one fault."""

    fault: str
    started: str
    left: str
    cleaners: str
    seconds: float


def markdown(rows: Iterable[Row]) -> str:
    lines = ["| fault | started by | there when it struck | found by | seconds until clean |", "|---|---|---|---|---|"]
    lines += [f"| {r.fault} | {r.started} | {r.left} | {r.cleaners} | {r.seconds:.1f} |" for r in rows]
    return "\n".join(lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Reports come from the workers of pytest-xdist, too; so this hook belongs to the outermost conftest."""
    rows = [
        Row(*value)
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if not rows:
        return
    from tests.faults.faults import FAULTS  # only here, because every run of pytest loads this module

    order = {(fault.name, fault.started): place for place, fault in enumerate(FAULTS)}
    page = Path(os.environ[FILE]) if os.environ.get(FILE) else None
    kept = {row[:2]: row for row in (*(rows_of(page) if page else ()), *rows)}
    table = markdown(sorted(kept.values(), key=lambda row: order.get((row.fault, row.started), len(order))))
    terminalreporter.section("faults")
    terminalreporter.write_line(table)
    if page:
        write_into(page, "matrix", table)


def rows_of(page: Path) -> list[Row]:
    """The rows that are in a page."""
    lines = between(page.read_text(), "matrix")[1].strip().split("\n")[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return [Row(*texts, seconds=float(seconds)) for *texts, seconds in cells]


def write_into(page: Path, name: str, text: str) -> None:
    """Replace what a page has between the two marks of a name."""
    before, _, after = between(page.read_text(), name)
    page.write_text(f"{before}\n{text}\n{after}")


def between(page: str, name: str) -> tuple[str, str, str]:
    """What is before, between and behind the two marks of a name, which belong to what is around them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    text, _, after = rest.partition(end)
    return before + begin, text, end + after
