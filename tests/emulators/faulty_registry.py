"""A front for a real registry that passes requests on and fails where it is told to."""

from __future__ import annotations

import http.client
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

from tests.emulators.served import Served

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping


@dataclass
class Fault:
    """What goes wrong, and when.

    Attributes:
        kind: `status`: answer with `status`. `hang`: never answer. `drop`: close the connection. `truncate`: send half
            of the body. `corrupt`: change a byte of the body.
        method: Regular expression that the whole method matches.
        path: Regular expression that is found in the path.
        status: For `status`.
        headers: Of the answer, for `status`.
        times: How often; None is always.
    """

    kind: Literal["status", "hang", "drop", "truncate", "corrupt"]
    method: str = ".*"
    path: str = ""
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None


@dataclass
class Answer:
    """An answer of the front itself."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class FaultyRegistry(Served):
    """A front on a free loopback port.

    Args:
        upstream: Host and port of the real registry.
        certificate: Makes it speak HTTPS.

    Attributes:
        host: Host and port of the front.
        faults: The first that matches happens.
        seen: Method and path of every request, in order.
    """

    def __init__(self, upstream: str, certificate: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream
        self.scheme = "https" if certificate else "http"
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if certificate:
            self._server.socket = certificate.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        super().__exit__()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        """An answer instead of the real registry's; None lets the request pass."""
        return None

    def passed_on(self, method: str, path: str, body: bytes, status: int) -> Mapping[str, str]:
        """Headers that are added to the real registry's answer."""
        return {}

    def next_fault(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets."""
        with self._lock:
            self.seen.append((method, path))
            for fault in self.faults:
                if re.fullmatch(fault.method, method) and re.search(fault.path, path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def requests(self, method: str, path: str = "") -> list[str]:
        """Paths of the requests that were seen."""
        return [seen for verb, seen in self.seen if verb == method and re.search(path, seen)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are part of the tests."""


def _handler(front: FaultyRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def parse_request(self) -> bool:
            """Answer a TLS hello as web servers do: BuildKit speaks plain HTTP only if the answer begins with HTTP/."""
            if self.raw_requestline.startswith(b"\x16"):
                self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                self.close_connection = True
                return False
            return super().parse_request()

        def pass_on(self) -> None:
            fault = front.next_fault(self.command, self.path)
            if fault and fault.kind == "hang":
                front.closing.wait(60)
            if fault and fault.kind in ("hang", "drop"):
                self.close_connection = True
                return
            body = self.read_body()
            own = front.answer(self.command, self.path, self.headers)
            if fault and fault.kind == "status":
                own = Answer(fault.status, fault.headers, b'{"errors": [{"code": "FAULT", "message": "injected"}]}')
            if own:
                self.send(own.status, own.headers.items(), own.body)
                return
            upstream = http.client.HTTPConnection(front.upstream, timeout=60)
            # Engines send several Accept headers.
            names = {name.title() for name in self.headers if name.lower() not in _HOP}
            headers = {name: ", ".join(self.headers.get_all(name, ())) for name in names}
            # The Host header is kept, so that the registry names this front in the locations of uploads.
            headers["X-Forwarded-Proto"] = front.scheme
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            if fault and fault.kind == "corrupt" and content:
                content = bytes([content[0] ^ 1]) + content[1:]
            added = front.passed_on(self.command, self.path, body, answer.status)
            headers_sent = [*answer.getheaders(), *added.items()]
            self.send(answer.status, headers_sent, content, truncate=bool(fault and fault.kind == "truncate"))

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def send(self, status: int, headers: Iterable[tuple[str, str]], body: bytes, *, truncate: bool = False) -> None:
            self.send_response(status)
            sent = dict(headers)
            length = sent.pop("Content-Length", None) if self.command == "HEAD" else str(len(body))
            for name, value in sent.items():
                if name.lower() not in (*_HOP, "content-length", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if truncate else body)
            self.close_connection = self.close_connection or truncate

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815

    return Handler


_HOP = ("connection", "transfer-encoding", "keep-alive")
