"""A registry that wants a login: a token server and a guard in front of a real registry.

Source: https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from tests.emulators.faulty_registry import Answer, FaultyRegistry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


class TokenRegistry(FaultyRegistry):
    """A registry whose users have passwords.

    Args:
        upstream: Host and port of the real registry.
        users: Passwords by user name.
        public: Prefixes of repositories that anybody may pull.
        scheme: How users sign in.
        life: Seconds for which a token is good.
        certificate: Makes it speak HTTPS.

    Attributes:
        realm: URL of the token server; tests may lie about it.
        given: Scope of every token that was given.
    """

    def __init__(
        self,
        upstream: str,
        users: Mapping[str, str],
        *,
        public: tuple[str, ...] = (),
        scheme: Literal["bearer", "basic"] = "bearer",
        life: float = 300,
        certificate: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(upstream, certificate)
        self.users = users
        self.public = public
        self.sign_in = scheme
        self.life = life
        self.realm = f"{self.scheme}://{self.host}/token"
        self.given: list[str] = []
        self._tokens: dict[str, tuple[str, float]] = {}

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        """Give tokens, and let in who has one."""
        if path.startswith("/token") and method == "POST":  # OAuth, which not every registry has
            return Answer(404, {}, b"")
        if path.startswith("/token"):
            return self._give_token(path, headers)
        if self.sign_in == "basic":
            if self._user(headers):
                return None
            return Answer(401, {"WWW-Authenticate": 'Basic realm="a registry"'}, _error("UNAUTHORIZED"))
        scope = self._scope(method, path)
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        granted, expires = self._tokens.get(token, ("", 0.0))
        if expires > time.monotonic() and _grants(granted, scope):
            return None
        challenge = f'Bearer realm="{self.realm}",service="{self.host}"' + (f',scope="{scope}"' if scope else "")
        return Answer(401, {"WWW-Authenticate": challenge}, _error("UNAUTHORIZED"))

    def _give_token(self, path: str, headers: Mapping[str, str]) -> Answer:
        query = parse_qs(urlsplit(path).query)
        scope = " ".join(query.get("scope", []))
        assert query["service"] == [self.host]
        user = self._user(headers)
        public = scope.endswith(":pull") and scope.removeprefix("repository:").startswith(self.public)
        if "Authorization" in headers and not user:
            return Answer(401, {}, _error("UNAUTHORIZED"))
        if not user and not (self.public and public):
            return Answer(401, {}, _error("DENIED"))
        token = secrets.token_urlsafe()
        self._tokens[token] = (scope, time.monotonic() + self.life)
        self.given.append(scope)
        return Answer(200, {}, json.dumps({"token": token, "expires_in": self.life}).encode())

    def _user(self, headers: Mapping[str, str]) -> str | None:
        kind, _, value = headers.get("Authorization", "").partition(" ")
        if kind != "Basic":
            return None
        name, _, password = base64.b64decode(value).decode().partition(":")
        return name if self.users.get(name) == password else None

    def _scope(self, method: str, path: str) -> str:
        if path.startswith("/v2/_catalog"):
            return "registry:catalog:*"
        found = re.match(r"/v2/(.+)/(?:manifests|blobs|tags)/", path)
        return f"repository:{found[1]}:{_ACTIONS.get(method, 'pull,push')}" if found else ""


def _grants(granted: str, scope: str) -> bool:
    """Whether a token of some scopes is good for another: engines ask for `push,pull`, and for several at once."""
    wanted, _, actions = scope.rpartition(":")
    return granted == scope or any(
        of == wanted and {*actions.split(",")} <= {*given.split(",")}
        for of, _, given in (each.rpartition(":") for each in granted.split())
    )


def _error(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
