"""How much memory processes have used at their worst. Source: proc(5), `status` and `clear_refs`."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


@dataclass
class Growth:
    """Bytes of physical memory beyond those at the beginning; known at the end of the block."""

    peak: int = 0


@contextmanager
def memory_growth() -> Iterator[Growth]:
    """Measure a block."""
    growth = Growth()
    Path("/proc/self/clear_refs").write_text("5")
    before = _bytes("VmRSS", Path("/proc/self"))
    try:
        yield growth
    finally:
        growth.peak = _bytes("VmHWM", Path("/proc/self")) - before


def largest_of(process: subprocess.Popen[str]) -> int:
    """Wait for a process. Bytes of physical memory of the largest one among it and what it has started."""
    peak = 0
    while process.poll() is None:
        family = {process.pid}
        for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            with suppress(OSError, AssertionError):  # it has ended
                if family & {int(path.name), _status("PPid", path)}:
                    family.add(int(path.name))
                    peak = max(peak, _bytes("VmHWM", path))
        time.sleep(0.05)
    return peak


def _bytes(name: str, process: Path) -> int:
    return _status(name, process) * 1024


def _status(name: str, process: Path) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", (process / "status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])
