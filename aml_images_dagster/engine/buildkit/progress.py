"""The progress of a build, as buildx writes it with `--progress=rawjson`.

Each event is a JSON object, over many lines in older versions; between them are lines of text in the program's own
words. Source: https://pkg.go.dev/github.com/moby/buildkit/client#SolveStatus.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aml_images_dagster.bounded import LONGEST_LOG, Lines, up_to
from aml_images_dagster.engine.stream import LONGEST_TAIL_LINE, TAIL_LINES, parts_to_hide, redact
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from aml_images_dagster.engine.interface import LogLine

_MOST_LINES_OF_AN_EVENT = 100_000
_MADE = re.compile(r"exporting manifest (sha256:[0-9a-f]{64})")
# Each part of buildx adds its own words to what BuildKit says.
_FAILED = re.compile(r"ERROR: (?:failed to (?:build|solve): )*")
_CODE = re.compile(r"did not complete successfully: exit code: (\d+)")


@dataclass
class _Vertex:
    number: int
    name: str
    output: Lines = field(default_factory=Lines)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


class Progress:
    """Makes log lines of events, and keeps what a failure means.

    Args:
        log: Receives the lines.
        secrets: Texts that may not appear in them.
        made: Receives the digest of each image, all of them before the push begins.

    Attributes:
        error: What buildx says last of its failure; empty as long as there is none.
        tail: The end of the log.
        failed_output: The end of what the failed instruction has printed.
        pushing_since: When the push began, on the monotonic clock; None before it does.
        is_pushed: Whether it is over: the cache is exported after it.
    """

    def __init__(
        self, log: LogLine, secrets: Collection[str] = (), made: Callable[[str], None] = lambda _: None
    ) -> None:
        self._log = up_to(LONGEST_LOG, log)
        self._made = made
        self._secrets = parts_to_hide(secrets)
        self._text = Lines(longest=2**20)
        self._event: list[str] = []
        self._vertices: dict[str, _Vertex] = {}
        self._failed: _Vertex | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.error = ""
        self.pushing_since: float | None = None
        self.is_pushed = False

    @property
    def tail(self) -> str:
        """See the class."""
        return "\n".join(self._tail)

    @property
    def failed_output(self) -> str:
        """See the class."""
        return "\n".join(self._failed.tail) if self._failed else ""

    @property
    def failed_name(self) -> str:
        """The failed instruction, as BuildKit names it; empty when none has failed."""
        return self._failed.name if self._failed else ""

    @property
    def exit_code(self) -> int | None:
        """Exit code of the failed instruction; None when none has failed."""
        found = _CODE.search(self.error)
        return int(found[1]) if found else None

    def take(self, piece: bytes) -> None:
        """What came next on standard error."""
        for line in self._text.take(piece):
            self._take_line(line.rstrip("\r"))

    def end(self) -> None:
        """Nothing comes any more."""
        for line in self._text.rest():
            self._take_line(line)
        for vertex in self._vertices.values():
            for line in vertex.output.rest():
                self._output(vertex, line)
        for line in self._event:  # half of an event, or none at all
            self._write(line)

    def _take_line(self, line: str) -> None:
        if self._event or line.startswith("{"):
            self._event.append(line)
            if line.startswith("}") or (len(self._event) == 1 and line.endswith("}")):
                text, self._event = "\n".join(self._event), []
                try:
                    event = json.loads(text)
                except ValueError:
                    self._write(text)
                else:
                    self._take_event(event if isinstance(event, dict) else {})
            elif len(self._event) > _MOST_LINES_OF_AN_EVENT:
                self._event.clear()
        elif line.strip():
            if line.startswith("ERROR: "):
                self.error = redact(printable(_FAILED.sub("", line)), self._secrets)
            self._write(line)

    def _take_event(self, event: Mapping[str, Any]) -> None:
        for said in event.get("vertexes") or ():
            self._take_vertex(said)
        for said in event.get("statuses") or ():
            status = str(said.get("id", ""))
            if status.startswith("pushing "):
                self._begin_to_push()
            if (image := _MADE.fullmatch(status)) and not said.get("completed"):
                self._made(image[1])
        for said in event.get("logs") or ():
            vertex = self._vertices.get(str(said.get("vertex", "")))
            if vertex:
                for line in vertex.output.take(base64.b64decode(said.get("data") or "")):
                    self._output(vertex, line)
        for said in event.get("warnings") or ():
            self._write(f"warning: {base64.b64decode(said.get('short') or '').decode(errors='replace')}")

    def _take_vertex(self, said: Mapping[str, Any]) -> None:
        key, name = str(said.get("digest", "")), str(said.get("name", ""))
        vertex = self._vertices.get(key)
        if vertex is None:
            vertex = self._vertices[key] = _Vertex(len(self._vertices) + 1, name)
            self._write(f"#{vertex.number} {name}")
        if name.startswith("pushing ") and said.get("started"):
            self._begin_to_push()
        if name.startswith("exporting cache") and said.get("started"):
            self.is_pushed = self.pushing_since is not None
        if said.get("cached"):
            self._write(f"#{vertex.number} CACHED")
        if error := said.get("error"):
            self._write(f"#{vertex.number} ERROR: {error}")
            if self._failed is None and "context canceled" not in str(error):
                self._failed = vertex

    def _begin_to_push(self) -> None:
        if self.pushing_since is None:
            self.pushing_since = time.monotonic()

    def _output(self, vertex: _Vertex, line: str) -> None:
        # A progress bar overwrites its line; only its last state is of use in a log.
        shown = line.rstrip().rsplit("\r", 1)[-1]
        if shown:
            vertex.tail.append(redact(printable(shown), self._secrets)[:LONGEST_TAIL_LINE])
            self._write(f"#{vertex.number} {shown}")

    def _write(self, line: str) -> None:
        shown = redact(printable(line), self._secrets)
        self._tail.append(shown[:LONGEST_TAIL_LINE])
        self._log(shown)
