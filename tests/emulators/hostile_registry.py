"""A registry that means harm: each test says how it answers."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.emulators.served import Served

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

PAUSE = 0.1


class Exchange(BaseHTTPRequestHandler):
    """One connection, with ways to answer."""

    server: _Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer_request(self) -> None:
        """Let the test answer."""
        self.server.seen.append(self.path)
        self.server.play(self)

    do_GET = do_HEAD = do_POST = do_PUT = answer_request  # noqa: N815

    def reply(self, status: int = 200, body: bytes = b"{}", **headers: str) -> None:
        """An orderly answer; `_` in a header's name stands for `-`."""
        self.head(status, Content_Length=str(len(body)), **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def head(self, status: int = 200, **headers: str) -> None:
        """Status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def endless(self, piece: bytes, pause: float = 0) -> None:
        """Send a piece again and again, until the client has gone or the test is over."""
        while not self.server.closing.is_set():
            self.wfile.write(piece)
            self.wfile.flush()
            self.server.sent += len(piece)
            time.sleep(pause)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    closing: threading.Event
    play: Callable[[Exchange], None]
    seen: list[str]
    sent = 0

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are what tests want."""


class HostileRegistry(Served):
    """A server on a free port.

    Args:
        play: Answers a request.
        address: Where it listens.
        certificate: Makes it speak HTTPS.

    Attributes:
        port: Its port.
        seen: Paths of all requests.
    """

    def __init__(
        self, play: Callable[[Exchange], None], address: str = "127.0.0.1", certificate: ssl.SSLContext | None = None
    ) -> None:
        self._server = _Server((address, 0), Exchange)
        self._server.play, self._server.seen, self._server.closing = play, [], threading.Event()
        if certificate:
            # The handshake is the handler's: whoever hangs up in it must not stop the others.
            self._server.socket = certificate.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        self.host = f"{address}:{self.port}"
        self.seen = self._server.seen

    @property
    def sent(self) -> int:
        """Bytes of endless bodies."""
        return self._server.sent

    def __exit__(self, *_: object) -> None:
        self._server.closing.set()
        super().__exit__()
