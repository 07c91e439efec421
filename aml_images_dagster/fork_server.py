"""The servers that processes are forked from: they have imported everything, which makes a process cheap."""

from __future__ import annotations

import os
import signal
from multiprocessing import forkserver

FOR_RUNS = ["aml_images_dagster.preload"]
"""What the server imports that runs are forked from. It makes no definitions: a run makes those of its commit."""
FOR_STEPS = ["dagster._core.executor.multiprocess", "aml_images_dagster.preload_definitions"]
"""What the server imports that steps are forked from where they are not forks of their run."""


def start() -> None:
    """Start the server for steps before the first one needs it: its imports take seconds, in parallel to this process.

    It reads the environment as it is now. Dagster uses a server that is there already.
    """
    forkserver.set_forkserver_preload(FOR_STEPS)
    forkserver.ensure_running()


def ignore_termination() -> None:
    """Let a server, which this process is, outlive a SIGTERM of its whole process group.

    It tells how each of its forks has ended: without it, one that still cleans up would count as dead. It ends with
    the last process that it serves.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.register_at_fork(after_in_child=_can_be_terminated)


def _can_be_terminated() -> None:
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
