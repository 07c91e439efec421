"""One fault suite on a machine at a time: two would take each other's load for a fault. The dead leave nothing."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 3600
_PLACE = re.compile(r"(faults|hosts)-(\d+)-(\d+)")
"""Suite and process: a folder, and the start of the names of its network namespaces."""


@contextmanager
def place(*, alone: bool = True) -> Iterator[Path]:
    """A folder for a process of this suite, once no other suite runs. Its name is free for a network namespace, too.

    The processes of pytest-xdist are one suite: they have the same parent.

    Args:
        alone: Whether the load of others would look like a fault.
    """
    suite = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    # Not below pytest's folders: the path of a socket is short.
    folder = Path(tempfile.gettempdir()) / f"{'faults' if alone else 'hosts'}-{suite}-{os.getpid()}"
    # One looks at a time: two would both find nobody, or clear away the same things.
    with folder.with_name("faults.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _clear_after_the_dead(suite)
        if alone:
            _wait_until_alone(suite)
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_alone(suite: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if not _clear_after_the_dead(suite):
            return
        assert time.monotonic() < deadline, f"another fault suite has not ended after {PATIENCE_SECONDS} s"
        time.sleep(1)


def _clear_after_the_dead(suite: int) -> int:
    """How many processes of other suites that want to be alone live."""
    others = 0
    for folder in Path(tempfile.gettempdir()).iterdir():
        if found := _PLACE.fullmatch(folder.name):
            if not Path(f"/proc/{found[3]}").exists():
                _clear(folder)
            elif found[1] == "faults" and int(found[2]) != suite:
                others += 1
    return others


def command_of(pid: int) -> bytes:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def naming(text: str) -> Iterator[int]:
    """Processes that have a text in their command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and text.encode() in command_of(int(entry.name)):
            yield int(entry.name)


def _clear(folder: Path) -> None:
    """Remove what a suite that was killed has left."""
    namespaces = [path.name for path in Path("/var/run/netns").glob(f"{folder.name}*")]
    pids = {*naming(f"{folder}/")}
    for namespace in namespaces:
        listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True).stdout
        pids |= {*map(int, listed.split())}
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for namespace in namespaces:
        subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)
    for line in Path("/proc/mounts").read_text().splitlines():
        if (mounted := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", mounted], check=True)
    shutil.rmtree(folder, ignore_errors=True)
