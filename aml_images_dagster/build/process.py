"""The name of a process, by which another can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """The name of this process."""
    return named(os.getpid())


def named(pid: int) -> str:
    """`<host>:<start of the machine>:<process id>:<start of the process>`."""
    return f"{socket.gethostname()}:{_boot()}:{pid}:{_started(pid)}"


def is_dead(process: str) -> bool:
    """Whether a process has ended; False where this machine cannot tell."""
    host, _, rest = process.partition(":")
    boot, _, rest = rest.partition(":")
    pid, _, started = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    if boot != _boot():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # Its number may have gone to another process since.
    return _started(int(pid)) != started


def _boot() -> str:
    """Which start of this machine it is; empty where nothing tells.

    Source: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the clock ticks of this machine; empty where it is dead or nothing tells.

    A process that was killed and that its parent does not wait for, as in containers without an init, stays in the
    table and answers to signals; its state is Z.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        _, _, after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return ""
    state, *fields = after_name.split()
    return "" if state in "ZX" else fields[18]
