"""The servers that processes are forked from: they have imported everything, which makes a process cheap."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from multiprocessing import forkserver

FOR_RUNS = ["aml_images_dagster.preload"]
"""What the server imports that runs are forked from. It makes no definitions: a run makes those of its commit."""
FOR_STEPS = ["dagster._core.executor.multiprocess", "aml_images_dagster.preload_definitions"]
"""What the server imports that steps are forked from where they are not forks of their run."""

_PR_SET_PDEATHSIG = 1
_server: int | None = None
"""This process, if it is a server."""


def start() -> None:
    """Start the server for steps before the first one needs it: its imports take seconds, in parallel to this process.

    It reads the environment as it is now. Dagster uses a server that is there already.
    """
    forkserver.set_forkserver_preload(FOR_STEPS)
    forkserver.ensure_running()


def become_server() -> None:
    """Let this process, a server, and its forks count as what they are: dead when dead, and alive until then.

    The server tells how each fork has ended; without it all of them count as dead. So it outlives a SIGTERM of its
    whole process group, and ends with the last process that it serves. If it is killed all the same, its forks are
    terminated. Does nothing off Linux.
    """
    global _server
    if sys.platform != "linux":  # it has no signal for the end of a parent
        return
    _server = os.getpid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_become_fork)


def _before_fork() -> None:
    if _server is not None:  # else it is a fork itself
        # What is sent to a fork at once waits until it can end.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _after_fork() -> None:
    if _server is not None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _become_fork() -> None:
    global _server
    server, _server = _server, None
    if server is not None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if not terminate_with(server):
            os._exit(1)


def terminate_with(parent: int) -> bool:
    """Have the kernel send this process a SIGTERM when its parent ends; False if that has happened already.

    Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent
