"""The server that step processes are forked from: it has imported everything, which makes a process cheap."""

from __future__ import annotations

from multiprocessing import forkserver

PRELOADED = ["dagster._core.executor.multiprocess", "aml_images_dagster.preload"]


def start() -> None:
    """Start the server before the first step needs it: its imports take seconds, in parallel to this process.

    It reads the environment as it is now. Dagster uses a server that is there already.
    """
    forkserver.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
