"""The name of a process, by which another process can find out whether it still runs."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

_NO_CONTAINER = "4026531836"
"""The namespace of process ids in which a machine starts; source: `PROC_PID_INIT_INO` in Linux' proc_ns.h."""


def this_process() -> str:
    """The name of this process."""
    return named(os.getpid())


def named(pid: int) -> str:
    """`<host>:<machine>:<start of the machine>:<process ids' namespace>:<process id>:<start of the process>`."""
    return f"{_here()}:{pid}:{_started(pid)}"


def is_dead(process: str) -> bool:
    """Whether a process has ended; False where this is unknown.

    Containers may have the name of their host, or of each other, and the machine id of their image. So a process is
    looked for only among those that are seen from here, and only a machine that is known to be the same, outside of
    containers, is known to have been started again.
    """
    host, machine, boot, namespace, pid, started, *_ = [*process.split(":"), *[""] * 6]
    here_host, here_machine, here_boot, here_namespace = _here().split(":")
    if host != here_host or machine != here_machine or not pid.isdigit():
        return False
    if boot != here_boot:
        return bool(machine) and namespace == here_namespace == _NO_CONTAINER
    if namespace != here_namespace:
        return False
    now = _started(int(pid))
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # a process of another user, which may be hidden
        return now not in ("", started)
    # Its number may have gone to another process since.
    return now != started


def is_seen_from_here(process: str) -> bool:
    """Whether `is_dead` knows: the process is, or was, among those that this one sees."""
    return process.startswith(f"{_here()}:")


def _here() -> str:
    """Where process ids mean the same as here: host, machine, start of the machine, and their namespace.

    Unknown values are empty. Sources: https://man7.org/linux/man-pages/man5/machine-id.5.html,
    https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html (boot_id) and
    https://man7.org/linux/man-pages/man7/namespaces.7.html.
    """
    namespace = ""
    with suppress(OSError):
        namespace = "".join(filter(str.isdigit, os.readlink("/proc/self/ns/pid")))  # noqa: PTH115 - no path
    machine, boot = _line("/etc/machine-id"), _line("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}:{machine}:{boot}:{namespace}"


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the clock ticks of this machine; empty if it is dead or unknown.

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
