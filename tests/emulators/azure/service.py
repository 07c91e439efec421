"""What every emulated Azure service is: HTTPS on a free loopback port, for bearers of a token, with faults on demand.

A service of its own is a subclass or an instance with routes:

    with AzureService(certificate, identity) as service:
        service.route("GET", r"/things/(?P<name>[^/]+)", lambda request, name: Answer(document={"name": name}))
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

from tests.emulators.azure.http_messages import Answer, Request
from tests.emulators.served import Served

if TYPE_CHECKING:
    import ssl

    from tests.emulators.azure.managed_identity import ManagedIdentity

Handle = Callable[..., Answer]
"""Gets the request, and the named groups of its route by name."""


@dataclass
class Fault:
    """What goes wrong, and when.

    Attributes:
        kind: `status`: answer with `status`. `slow`: wait `seconds`, then go on. `reset`: reset the connection.
        method: Regular expression that the whole method matches.
        path: Regular expression that is found in path and query as they were sent.
        status: For `status`.
        headers: Of the answer, for `status`.
        seconds: For `slow`.
        times: How often; None is always.
    """

    kind: Literal["status", "slow", "reset"]
    method: str = ".*"
    path: str = ""
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0
    times: int | None = 1


@dataclass(frozen=True)
class Exchange:
    """A line of the request log.

    Attributes:
        request: What was asked.
        status: What was answered; 0 is a reset connection.
        time: When the request was there, as `time.monotonic()`.
    """

    request: Request
    status: int
    time: float


class AzureService(Served):
    """An HTTPS server of a test.

    Args:
        certificate: With a certificate for 127.0.0.1.
        identity: Who gives the tokens that this service takes.
        audience: The resource for which tokens must have been given; empty takes all.

    Attributes:
        url: `https://127.0.0.1:<port>`.
        log: Every exchange, in order of the answers.
        faults: The first that matches happens.
    """

    def __init__(self, certificate: ssl.SSLContext, identity: ManagedIdentity, audience: str = "") -> None:
        self.identity = identity
        self.audience = audience
        self.log: list[Exchange] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()
        self._routes: list[tuple[str, re.Pattern[str], Handle, bool]] = []
        self._lock = threading.Lock()
        self._server = _Server(self, certificate)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"https://{self.host}"

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        super().__exit__()
        self._server.hang_up()

    def route(self, method: str, path: str, handle: Handle, *, anybody: bool = False) -> None:
        """Answer requests whose method and whole decoded path match; routes that come first are asked first.

        Args:
            method: A regular expression.
            path: A regular expression; what its named groups find is handed to `handle`.
            handle: Gives the answer. It is called from many threads.
            anybody: Takes requests without a token.
        """
        self._routes.append((method, re.compile(path, re.IGNORECASE), handle, anybody))

    def fail(self, status: int, *, retry_after: int | None = None, **fault: Any) -> Fault:
        """Answer the next request, or those that `fault` describes, with an error."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        made = Fault("status", status=status, headers=headers, **fault)
        self.faults.append(made)
        return made

    def requests(self, method: str = ".*", path: str = "") -> list[Request]:
        """The requests that were answered: method matches whole, path is found in path and query."""
        return [line.request for line in self.exchanges(method, path)]

    def exchanges(self, method: str = ".*", path: str = "") -> list[Exchange]:
        """The same, with answers and times."""
        with self._lock:
            log = list(self.log)
        return [
            line for line in log if re.fullmatch(method, line.request.method) and re.search(path, line.request.target)
        ]

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
        """An error as Azure Resource Manager writes it. Source: github.com/Azure/azure-resource-manager-rpc."""
        return Answer(status, {"error": {"code": code, "message": message}}, headers or {})

    def refuse(self, request: Request) -> Answer | None:
        """What is answered to a request whose token is missing, unknown, expired or meant for others."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.identity.accepts(token, self.audience):
            return None
        challenge = {"WWW-Authenticate": f'Bearer authorization_uri="{self.identity.url}", error="invalid_token"'}
        return self.error(401, "InvalidAuthenticationToken", "The access token is missing or has expired.", challenge)

    def handle(self, request: Request) -> Answer:
        """The answer to a request that no fault hits."""
        for method, path, handle, anybody in self._routes:
            found = path.fullmatch(request.path)
            if found and re.fullmatch(method, request.method):
                return (None if anybody else self.refuse(request)) or handle(request, **found.groupdict())
        return self.refuse(request) or self.error(404, "ResourceNotFound", f"No such resource: {request.path}")

    def answer(self, request: Request) -> Answer | None:
        """The answer, or the fault that hits the request; None resets the connection."""
        arrived = time.monotonic()
        fault = self._next_fault(request)
        if fault and fault.kind == "slow":
            self.closing.wait(fault.seconds)
        answer: Answer | None
        if fault and fault.kind == "reset":
            answer = None
        elif fault and fault.kind == "status":
            answer = self.error(fault.status, "Injected", "A fault of the test.", fault.headers)
        else:
            answer = self.handle(request)
        with self._lock:
            self.log.append(Exchange(request, answer.status if answer else 0, arrived))
        return answer

    def _next_fault(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                matches = re.fullmatch(fault.method, request.method) and re.search(fault.path, request.target)
                if matches and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, service: AzureService, certificate: ssl.SSLContext) -> None:
        self._certificate = certificate
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _handler(service))

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS is begun here, in the connection's own thread: a client that says nothing must not stop the others."""
        with self._certificate.wrap_socket(request, server_side=True) as connection:
            self._open.add(connection)
            try:
                super().finish_request(connection, client_address)
            finally:
                self._open.discard(connection)

    def hang_up(self) -> None:
        """End connections that clients keep alive."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up, or speak no TLS, are part of the tests."""


def _handler(service: AzureService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def respond(self) -> None:
            answer = service.answer(Request(self.command, self.path, self.headers, self.read_body()))
            if answer is None:
                self.reset()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            sent = {name.lower() for name in answer.headers}
            if answer.document is not None and "content-type" not in sent:
                self.send_header("Content-Type", "application/json; charset=utf-8")
            body = answer.body
            if "content-length" not in sent and answer.status not in (204, 304):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def reset(self) -> None:
            """End the connection with RST instead of an answer."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = respond  # noqa: N815

    return Handler
