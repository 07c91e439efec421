"""What a stranger may write so that it does something where it is shown."""

from __future__ import annotations

HOSTILE = "ok \x1b]52;c;cm0gLXJmIH4=\x07\x1b]0;title\x07\x1b[2J\x1b[1A\x9b2J\b\x7f \u202egnp.exe\u202c\u2066\u200f end"
"""Sets the clipboard and the title, wipes the screen, moves the cursor, turns the direction of text."""

SHOWN = r"ok \x1b]52;c;cm0gLXJmIH4=\x07\x1b]0;title\x07\x1b[2J\x1b[1A\x9b2J\x08\x7f \u202egnp.exe\u202c\u2066\u200f end"
"""The same as people may see it."""

ACTIVE = tuple("\x1b\x07\x08\x7f\x9b\u202e\u202c\u2066\u200f")


def active_in(text: str) -> set[str]:
    """What of it has survived."""
    return set(ACTIVE).intersection(text)
