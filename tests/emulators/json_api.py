"""An HTTP server that answers with JSON, for emulators of hosts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.emulators.served import Served


@dataclass(frozen=True)
class Request:
    """A request that was received."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass
class JsonApi(Served):
    """Answers requests by `answer`, and remembers them.

    Attributes:
        received: Every request so far.
        fault: The status that everything is answered with; 0 for none.
    """

    received: list[Request] = field(default_factory=list)
    fault: int = 0

    def answer(self, request: Request) -> tuple[Any, ...]:
        """Status, body, and headers if there are any."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                data = self.rfile.read(length)
                url = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(url.query).items()}
                body = json.loads(data) if data else None
                request = Request(self.command, url.path, query, body, dict(self.headers))
                api.received.append(request)
                status, answer, *more = (api.fault, {"message": "out of order"}) if api.fault else api.answer(request)
                content = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                for name, value in more[0].items() if more else ():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return super().__enter__()
