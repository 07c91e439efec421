"""An engine whose answers are written by the test: for faults that a real engine can't be made to have."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from tests.emulators.served import Served

if TYPE_CHECKING:
    from collections.abc import Mapping

Ending = Literal["orderly", "drop", "silence", "chatter", "stop"]


class FaultyEngine(Served):
    """Speaks the few calls of the Engine API that precede and make up a build, a push and a pull.

    Args:
        events: The messages of every build, push and pull.
        ending: What comes after them. `orderly`: the end. `drop`: the connection breaks. `silence`: nothing, with the
            connection open. `chatter`: lines without end. `stop`: an orderly end of the stream, and of the engine.
        pause: Seconds between the events.
        info: Answers of `/info`.
        version: Answers of `/version`.

    Attributes:
        url: For `DockerEngine`.
        headers: Request headers of the last build, push or pull.
        images: What it has, and answers when it is asked for one.
        hung_up: Set once a client has closed the connection of a silent stream.
    """

    def __init__(
        self,
        events: tuple[Mapping[str, Any], ...] = (),
        ending: Ending = "orderly",
        pause: float = 0,
        info: Mapping[str, Any] | None = None,
        version: Mapping[str, Any] | None = None,
    ) -> None:
        self.events = events
        self.ending: Ending = ending
        self.pause = pause
        self.info = {"OSType": "linux", **(info or {})}
        self.version = {"ApiVersion": "1.41", "Version": "20.10", "Os": "linux", "Arch": "amd64", **(version or {})}
        self.headers: dict[str, str] = {}
        self.images: Mapping[str, Mapping[str, Any]] = {}
        self.hung_up = threading.Event()
        self.stopped = False
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"tcp://127.0.0.1:{self._server.server_port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are part of the tests."""


def _handler(engine: FaultyEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            if engine.stopped:
                self.close_connection = True
                return
            documents = {"version": engine.version, "info": engine.info, "_ping": "OK", **engine.images}
            path = unquote(urlsplit(self.path).path)
            name = path.partition("/images/")[2].removesuffix("/json") or path.rsplit("/", 1)[-1]
            if name in documents:
                self.answer(200, documents[name])
            else:
                self.answer(404, {"message": f"no such thing: {self.path}"})

        def do_POST(self) -> None:
            engine.headers = dict(self.headers.items())
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in engine.events:
                self.send(event)
            while engine.ending == "chatter":
                time.sleep(0.1)
                self.send({"stream": "and on\n"})
            if engine.ending == "silence":
                self.connection.settimeout(30)
                if not self.connection.recv(1):
                    engine.hung_up.set()
            engine.stopped = engine.ending == "stop"
            if engine.ending in ("orderly", "stop"):
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

        def send(self, event: Mapping[str, Any]) -> None:
            time.sleep(engine.pause)
            line = json.dumps(event).encode() + b"\r\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")

        def answer(self, status: int, document: Any) -> None:
            body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
