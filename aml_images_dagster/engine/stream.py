"""Following the output of an engine that builds, pushes or pulls.

The engine reports most failures inside a stream with the HTTP status 200, may send nothing forever, and
may disconnect. So every stream goes through `follow`: it ends with a result or with a `StreamFault`.
Source of the messages' form: https://docs.docker.com/reference/api/engine/ (ImageBuild, ImagePush, ImageCreate).
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from aml_images_dagster.bounded import LONGEST_LOG, Lines, up_to
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from aml_images_dagster.engine.client import EngineClient
    from aml_images_dagster.engine.interface import LogLine

Event = Mapping[str, Any]
FaultKind = Literal["reported", "refused", "broken", "deadline", "no result"]

TAIL_LINES = 40
LONGEST_TAIL_LINE = 4000
"""Characters."""
_SHORTEST_LINE = 4
"""Characters of a line of a secret; what is shorter is in every log."""
# Name and password anywhere; on the web also what stands alone before the @, because tokens are given so.
_URL_LOGIN = re.compile(r"(?<=://)[^/\s:@]*:[^/\s]+(?=@)|(?<=http://)[^/\s]+(?=@)|(?<=https://)[^/\s]+(?=@)")


class StreamFault(Exception):  # noqa: N818
    """A stream that did not come to its result.

    Attributes:
        kind: `reported`: the engine said so in the stream. `refused`: it answered with an HTTP error.
            `broken`: the connection broke. `deadline`: time was up. `no result`: the stream ended early.
        message: What was said.
        tail: The last lines of the log.
        code: Exit code of the failed instruction, when the engine reported one.
    """

    def __init__(self, kind: FaultKind, message: str, tail: str, code: int | None = None) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message
        self.tail = tail
        self.code = code


def follow(
    client: EngineClient,
    start: Callable[[], Iterable[Any]],
    *,
    seconds: float,
    log: LogLine,
    result_of: Callable[[Event], str | None],
    secrets: Iterable[str] = (),
) -> str:
    """Follow a stream to its end.

    Args:
        client: The client that `start` uses; its response is closed at the end, so the engine stops its work.
        start: Sends the request and returns the decoded events.
        seconds: Deadline, from now on. It also ends a stream that is silent.
        log: Receives the lines.
        result_of: What an event says of the result; None for nothing. The last result counts.
        secrets: Texts that may not appear in logs and errors.

    Raises:
        StreamFault: Anything but an orderly end with a result.
    """
    import docker.errors
    import requests
    import urllib3.exceptions

    hidden = parts_to_hide(secrets)
    pass_on = up_to(LONGEST_LOG, log)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    deadline = time.monotonic() + seconds
    time_is_up = threading.Event()

    def end_at_deadline() -> None:
        time_is_up.set()
        client.abort()

    def write(line: str) -> None:
        shown = redact(printable(line), hidden)
        tail.append(shown[:LONGEST_TAIL_LINE])
        pass_on(shown)

    lines = _EventLines(write)

    def fault(kind: FaultKind, message: str, code: int | None = None) -> StreamFault:
        lines.flush()
        if time_is_up.is_set() or time.monotonic() >= deadline:
            kind, message = "deadline", f"not finished after {seconds:g} s"
        return StreamFault(kind, redact(message, hidden), "\n".join(tail), code)

    def events() -> Iterator[Event]:
        # Only what the engine does is judged here: an error of `log` is the caller's.
        try:
            for event in start():
                if isinstance(event, Mapping):
                    yield event
        except docker.errors.APIError as error:
            raise fault("refused", str(error.explanation or error)) from None
        except (
            docker.errors.DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,  # half of a JSON document, or a response that was closed under the reader
        ) as error:
            raise fault("broken", f"{type(error).__name__}: {error}") from None

    result: str | None = None
    timer = threading.Timer(seconds, end_at_deadline)
    timer.daemon = True
    timer.start()
    try:
        for event in events():
            lines.take(event)
            if "error" in event or "errorDetail" in event:
                detail = event.get("errorDetail") or {}
                message = str(detail.get("message") or event.get("error") or "unknown error")
                raise fault("reported", message, detail.get("code") or _code_in(message))
            result = result_of(event) or result
            if time_is_up.is_set():  # a transport without `shutdown` (Windows pipes) goes on
                break
        lines.flush()
    finally:
        timer.cancel()
        client.end_response()
    if result is None or time_is_up.is_set():
        raise fault("no result", "the engine ended its answer without a result")
    return result


def parts_to_hide(secrets: Iterable[str]) -> tuple[str, ...]:
    """What a line of a log may not show of some secrets, the longest first: each as a whole, and each of its lines.

    The value of a file ends with a line end, and a key has many lines: no line of a log has all of it.
    """
    parts = {secret for secret in secrets if secret}
    lines = (line.strip() for secret in parts for line in secret.splitlines())
    parts |= {line for line in lines if len(line) >= _SHORTEST_LINE}
    return tuple(sorted(parts | {printable(part) for part in parts}, key=len, reverse=True))


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the given secrets and without logins inside of URLs."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return _URL_LOGIN.sub("***", text)


def _code_in(message: str) -> int | None:
    found = re.search(r"returned a non-zero code: (\d+)", message)
    return int(found.group(1)) if found else None


class _EventLines:
    """Makes lines of events: build output comes in pieces, transfer progress comes far too often."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._output = Lines()

    def take(self, event: Event) -> None:
        if "stream" in event:
            for line in self._output.take(str(event["stream"])):
                self._line(line)
        elif "status" in event and not event.get("progressDetail"):
            layer = f"{event['id']}: " if event.get("id") else ""
            self._line(f"{layer}{event['status']}")

    def flush(self) -> None:
        for line in self._output.rest():
            self._line(line)

    def _line(self, line: str) -> None:
        # A progress bar overwrites its line; only its last state is of use in a log.
        shown = line.rstrip().rsplit("\r", 1)[-1]
        if shown:
            self._write(shown)
