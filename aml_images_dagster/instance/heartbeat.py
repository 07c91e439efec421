"""Heartbeats of runs, for machines and containers from which the process of a run cannot be seen.

A run writes the time into the instance; one that has stopped doing so is dead. Clocks of machines that share an
instance may differ by seconds, not by a minute.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dagster as dg

_BEATS = 10
"""How often a run writes within the time after which it counts as dead."""
_CONFIRMATION = 0.2
"""The share of that time after which silence that was noticed counts. When the database was away, everybody is silent,
and those who look may be back before those who write."""


def beat(instance: dg.DagsterInstance, run_id: str) -> None:
    """Write a heartbeat of a run."""
    instance.daemon_cursor_storage.set_cursor_values({_last(run_id): repr(time.time())})


def seconds_between_beats(patience_seconds: float) -> float:
    """How often a run has to write a heartbeat.

    Args:
        patience_seconds: See `is_silent`.
    """
    return patience_seconds / _BEATS


@contextmanager
def beating(instance: dg.DagsterInstance, run_id: str, patience_seconds: float) -> Iterator[None]:
    """Beat in a thread: for a run in one process that does not fork. See `is_silent`."""

    def go_on() -> None:
        with suppress(Exception):  # an instance that does not answer now is no reason to end the run
            beat(instance, run_id)

    beat(instance, run_id)
    with repeated(go_on, seconds_between_beats(patience_seconds)):
        yield


@contextmanager
def repeated(work: Callable[[], None], seconds: float) -> Iterator[None]:
    """Do work in a thread again and again: for whoever has no place to call it.

    Args:
        work: Raises nothing.
        seconds: How long to wait before each time.
    """
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=go_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_silent(instance: dg.DagsterInstance, run_id: str, patience_seconds: float) -> bool:
    """Whether a run has stopped writing heartbeats; False for one that has never written any.

    The first call notices the silence, for whoever asks next; a later one may answer True.

    Args:
        instance: Where the run is recorded.
        run_id: The run.
        patience_seconds: How long a run that lives may write no heartbeat.
    """
    memory, now = instance.daemon_cursor_storage, time.time()
    values = memory.get_cursor_values({_last(run_id), _noticed(run_id)})
    last = values.get(_last(run_id))
    if last is None or now - float(last) < patience_seconds:
        return False
    noticed, _, since = values.get(_noticed(run_id), "").partition(" ")
    if noticed != last:
        memory.set_cursor_values({_noticed(run_id): f"{last} {now!r}"})
        return False
    return now - float(since) >= patience_seconds * _CONFIRMATION


def _last(run_id: str) -> str:
    return f"aml-images/alive/{run_id}"


def _noticed(run_id: str) -> str:
    return f"aml-images/silent/{run_id}"
