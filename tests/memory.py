"""How much more memory this process has used at its worst."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Growth:
    """Bytes of physical memory beyond those at the beginning; known at the end of the block."""

    peak: int = 0


@contextmanager
def memory_growth() -> Iterator[Growth]:
    """Measure a block. Source: proc(5), `clear_refs` and `VmHWM`."""
    growth = Growth()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    try:
        yield growth
    finally:
        growth.peak = _status("VmHWM") - before


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
