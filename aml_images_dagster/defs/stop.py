"""Stops a step soon after its build has ended in another process."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from aml_images_dagster.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.builds.session import BuildSession

_SECONDS = 2
"""How often the record is read."""


@contextmanager
def stopped_with(session: BuildSession) -> Iterator[None]:
    """Interrupt the step once the build's record says that the build has failed or was canceled.

    The record is what steps share wherever they run. The interrupt is the one that Dagster sends to a step that
    a person terminates, so everything that a step waits for ends with it and cleans up: the engine's build,
    a push, a job in containers or elsewhere. Only the main thread can be interrupted.

    Raises:
        BuildStopped: The build has ended elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    done, stopped = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(_SECONDS):
            with suppress(FactoryError, OSError):  # a store that does not answer now is asked again
                if session.has_ended():
                    stopped.set()
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                    return

    watcher = threading.Thread(target=watch, name="stop", daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        if stopped.is_set():
            session.begin()  # says why
        raise
    finally:
        done.set()
