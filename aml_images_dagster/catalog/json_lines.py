"""Lines of the keys and values of a JSON text, so that a message can point at them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

Location = tuple[str | int, ...]
"""The way from the root of a text to a value: keys of objects and indexes of arrays."""

# Enough for a text that `json.loads` has accepted; source: https://www.rfc-editor.org/rfc/rfc8259
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


@dataclass(frozen=True, slots=True)
class TextLines:
    """Where things are in a text of JSON's kind, or of YAML's.

    Attributes:
        lines: The line, counted from 1, of every value; in objects that of its key.
        repeated: Keys that an object has twice, of which a reader sees only the last, with the line of the later one.
    """

    lines: dict[Location, int] = field(default_factory=dict)
    repeated: list[tuple[Location, int]] = field(default_factory=list)

    def line(self, location: Location) -> int | None:
        """The line of a value, or of the innermost value around it that exists."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location)


def locate(text: str) -> TextLines:
    """Find the lines of a text that is valid JSON."""
    found = TextLines()
    location: list[str | int] = []
    awaits_key = False
    line, scanned = 1, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", scanned, token.start())
        scanned = token.start()
        match token.group():
            case "{" | "[" as opening:
                found.lines.setdefault(tuple(location), line)
                awaits_key = opening == "{"
                location.append("" if awaits_key else 0)
            case "}" | "]":
                location.pop()
                awaits_key = False
            case ",":
                last = location[-1]
                awaits_key = isinstance(last, str)
                location[-1] = "" if isinstance(last, str) else last + 1
            case ":":
                awaits_key = False
            case key if awaits_key:
                location[-1] = json.loads(key)
                if tuple(location) in found.lines:
                    found.repeated.append((tuple(location), line))
                found.lines[tuple(location)] = line
            case _:
                found.lines.setdefault(tuple(location), line)
    return found
