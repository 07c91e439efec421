"""Following the containers of a job: their output and their exits, as one stream of events."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docker.errors import NotFound

from aml_images_dagster.bounded import Lines
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from docker.models.containers import Container


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Cut a stream of bytes into lines without their ends; of a progress bar only the last state stays."""
    output = Lines()
    for chunk in chunks:
        yield from map(_last_state, output.take(chunk))
    yield from map(_last_state, output.rest())


def _last_state(line: str) -> str:
    return printable(line.rstrip("\r").rpartition("\r")[2])


class KeptOutput:
    """The last lines of a node's output.

    Args:
        limit: How many characters to keep.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0

    def add(self, line: str) -> None:
        """Take in one line."""
        self._lines.append(line)
        self._size += len(line) + 1
        if self._size > 2 * self._limit:
            self._trim()

    def _trim(self) -> None:
        """Forget the oldest lines; called rarely, because it moves all that stay."""
        first = 0
        while self._size > self._limit and first < len(self._lines):
            self._size -= len(self._lines[first]) + 1
            first += 1
        del self._lines[:first]
        self._dropped += first

    def text(self) -> str:
        """What was kept; says in its first line when something is missing."""
        if self._size > self._limit:
            self._trim()
        head = [f"[{self._dropped} lines before this one were not kept]"] if self._dropped else []
        return "".join(f"{line}\n" for line in head + self._lines)


_WAITING_EVENTS = 1000
"""Events that may wait to be read; then the reading of output pauses."""


@dataclass(frozen=True, slots=True)
class Line:
    """A node printed a line."""

    node: str
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A node ended or was killed; the exit code is None when its container was removed."""

    node: str
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Lost:
    """A node cannot be read any more, because the engine is gone."""

    node: str
    error: Exception


Event = Line | Ended | Lost


class Watch:
    """Reads every container in a thread of its own until it ends.

    Args:
        containers: Started containers by the name of their node.
        keep: How many characters of each node's output to keep.
    """

    def __init__(self, containers: Mapping[str, Container], keep: int) -> None:
        self.outputs = {node: KeptOutput(keep) for node in containers}
        self._events: queue.Queue[Event] = queue.Queue(_WAITING_EVENTS)
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(node, container), name=f"watch {node}", daemon=True)
            for node, container in containers.items()
        ]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The threads end with their containers; a writer that waits for room in the queue must not wait forever.
        self._closed.set()

    def next(self, seconds: float) -> Event | None:
        """The next event; None when there is none for so many seconds, or never will be."""
        until = time.monotonic() + seconds
        while True:
            try:
                # Short waits, because the end of all threads is no event.
                return self._events.get(timeout=max(0.0, min(0.5, until - time.monotonic())))
            except queue.Empty:
                if time.monotonic() >= until or not any(thread.is_alive() for thread in self._threads):
                    return None if self._events.empty() else self._events.get_nowait()

    def _read(self, node: str, container: Container) -> None:
        try:
            for line in lines(container.logs(stream=True, follow=True)):
                self.outputs[node].add(line)
                self._report(Line(node, line))
            self._report(Ended(node, int(container.wait()["StatusCode"])))
        except NotFound:
            self._report(Ended(node, None))
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            self._report(Lost(node, error))

    def _report(self, event: Event) -> None:
        while not self._closed.is_set():
            try:
                self._events.put(event, timeout=1)
            except queue.Full:
                continue
            return
