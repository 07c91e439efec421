"""Where things are in a JSON or YAML file, and what is wrong in its text although a reader accepts it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

Location = tuple[str | int, ...]
"""The way from the root of a file to a value: keys of objects and indexes of lists."""

Remark = tuple[int | None, str]
"""A line of the file, if there is one, and what is wrong there."""

# No key takes a number of more digits; Python converts no text of more than 4,300.
MOST_DIGITS = 300


@dataclass(frozen=True, slots=True)
class Lines:
    """Where things are in a file.

    Attributes:
        lines: The line, counted from 1, of every value; in objects that of its key.
        remarks: What is wrong in the text although a reader accepts it: keys that are there twice, of which a reader
            sees only the last, and numbers that it cannot hold.
        not_held: Where those numbers are; the data have 0 in their place.
    """

    lines: dict[Location, int] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    not_held: set[Location] = field(default_factory=set)

    def line(self, location: Location) -> int | None:
        """The line of a value, or of the innermost value around it that exists."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location)

    def add_key(self, location: Location, line: int) -> None:
        """Remember the key of an object."""
        if location in self.lines:
            self.remarks.append((line, f"{written(location)}: the key is there twice"))
        self.lines[location] = line

    def check_number(self, number: str, location: Location, line: int) -> bool:
        """Whether a number can be held; one that cannot is remarked upon."""
        digits = sum(map(str.isdigit, number))
        if digits > MOST_DIGITS:
            fault = f"a number of {digits:,} digits is too long"
        elif not math.isfinite(float(number)):
            fault = f"{number} is not a finite number"
        else:
            return True
        self.not_held.add(location)
        self.remarks.append((line, f"{written(location)}: {fault}" if location else fault))
        return False


class UnreadableError(Exception):
    """The text is none of its format; `args` are remarks."""


def written(location: Location) -> str:
    """A location as people write it: `scenarios[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")
