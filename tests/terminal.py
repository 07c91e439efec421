"""The end of a pseudoterminal that a person would look at."""

from __future__ import annotations

import os


def read_to_end(child: int, terminal: int) -> tuple[int, bytes]:
    """Exit code of a process of `pty.fork`, and all that it writes to its terminal."""
    written = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written
