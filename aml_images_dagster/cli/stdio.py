"""The terminal for ourselves, while Dagster and the step processes write to a log file."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def terminal_kept(log: Path) -> Iterator[TextIO]:
    """Let everything that is printed go to a file, and give what stays connected to the terminal.

    Step processes inherit the file descriptors 1 and 2, so those are what is turned.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = os.dup(1), os.dup(2)
    with log.open("ab") as file, os.fdopen(os.dup(out), "w", encoding="utf-8") as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
