"""The matrix: fault, what it left, who removed it, how long that took."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


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
