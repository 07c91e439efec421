"""The endpoint from which a managed identity gets its tokens, as App Service and Azure ML compute have it.

Source: https://learn.microsoft.com/azure/app-service/overview-managed-identity (REST endpoint reference). Plain HTTP,
as there: it is on the same machine. Reached by `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` alone.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.emulators.azure.tokens import new_token
from tests.emulators.served import Served


@dataclass(frozen=True)
class IssuedToken:
    """A token that was given.

    Attributes:
        resource: What it is for.
        client_id: Which identity was asked for; empty is the machine's own.
        expires: When it ends, in seconds since the epoch.
    """

    resource: str
    client_id: str
    expires: float


class ManagedIdentity(Served):
    """The endpoint on a free loopback port.

    Args:
        life_seconds: How long tokens are good.

    Attributes:
        life_seconds: May be changed at any time.
        available: When False, there is no identity: the endpoint answers 400.
        issued: Tokens that were given.
    """

    def __init__(self, life_seconds: float = 3600) -> None:
        self.life_seconds = life_seconds
        self.available = True
        self.issued: dict[str, IssuedToken] = {}
        self.secret = secrets.token_hex(16)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/msi/token"

    @property
    def environment(self) -> dict[str, str]:
        """What leads azure-identity here."""
        return {
            "IDENTITY_ENDPOINT": self.url,
            "IDENTITY_HEADER": self.secret,
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        }

    def issue(self, resource: str, client_id: str = "") -> str:
        """A new token."""
        expires = time.time() + self.life_seconds
        token = new_token(aud=resource, exp=int(expires), oid="emulated", tid="emulated")
        self.issued[token] = IssuedToken(resource, client_id, expires)
        return token

    def accepts(self, token: str, audience: str = "") -> bool:
        """Whether a token is one of these, is not over, and is meant for the audience."""
        known = self.issued.get(token)
        return known is not None and known.expires > time.time() and known.resource.startswith(audience)

    def revoke_all(self) -> None:
        """Let every token end now."""
        for token, known in list(self.issued.items()):
            self.issued[token] = IssuedToken(known.resource, known.client_id, 0)


def _handler(identity: ManagedIdentity) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            query = dict(parse_qsl(urlsplit(self.path).query))
            if self.headers.get("X-IDENTITY-HEADER") != identity.secret:
                self.send(401, {"statusCode": 401, "message": "wrong X-IDENTITY-HEADER"})
            elif not identity.available:
                self.send(400, {"statusCode": 400, "message": "No managed identity found for this machine."})
            else:
                client_id = query.get("client_id", "")
                token = identity.issue(query["resource"], client_id)
                expires = str(int(identity.issued[token].expires))
                given = {"access_token": token, "expires_on": expires, "resource": query["resource"]}
                self.send(200, {**given, "token_type": "Bearer", "client_id": client_id})

        def send(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
