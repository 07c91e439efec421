"""Processes of runs as forks of a server that has imported everything.

Dagster's code server starts a Python for each run that it is asked to launch, and most of the processor time of a small
run is its imports. Here the first run starts a fork server of `multiprocessing`, and each run is a fork of that: of a
process with one thread, without definitions and without an instance, so that a run makes its own as before.

The code server keeps how it starts processes in a private attribute; docs/performance.md lists it.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkServerContext


def fork_runs(preload: Sequence[str]) -> None:
    """Start the runs of this process's code server as forks; does nothing in a process without one, and off Linux.

    Args:
        preload: Modules that the fork server imports.
    """
    if sys.platform == "linux" and "dagster._grpc.server" in sys.modules:  # a long import, which others can do without
        from dagster._grpc.server import DagsterApiServer

        DagsterApiServer._mp_ctx = _ForkServerContext(preload)  # type: ignore[assignment]


class _ForkServerContext:
    """In place of an attribute that each code server sets when it is made, before it loads definitions."""

    def __init__(self, preload: Sequence[str]) -> None:
        self._preload = [*preload]

    def __get__(self, server: object, owner: type) -> ForkServerContext:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(self._preload)
        return context

    def __set__(self, server: object, value: object) -> None:
        """Whatever it sets, runs are forked."""
