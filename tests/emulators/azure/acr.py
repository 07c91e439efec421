"""Azure Container Registry, before a real registry: sign-in by exchange of tokens, and what ACR adds to the protocol.

Sources: https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md for tokens, and the REST reference of the data plane,
https://learn.microsoft.com/rest/api/containerregistry. The identity of the test has whatever `allowed` says.
"""

from __future__ import annotations

import base64
import http.client
import re
import shutil
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.oci import OciRegistry
from tests.emulators.azure.http_messages import Answer, Request
from tests.emulators.azure.service import AzureService
from tests.emulators.azure.tokens import new_token
from tests.emulators.referrers_registry import Referrers
from tests.faults.own_registry import OwnRegistry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tests.emulators.azure.managed_identity import ManagedIdentity

AUDIENCE = "https://containerregistry.azure.net"
TOKEN_USER = "00000000-0000-0000-0000-000000000000"
EVERYTHING = frozenset({"pull", "push", "delete", "metadata_read", "metadata_write", "*"})

_TIME = "2026-01-01T00:00:00.0000000Z"
_ATTRIBUTES = {"deleteEnabled": True, "writeEnabled": True, "readEnabled": True, "listEnabled": True}
_CODES = {403: "DENIED", 429: "TOOMANYREQUESTS"}
_HOP = ("connection", "transfer-encoding", "keep-alive", "authorization", "date", "server", "content-length")


_ENGINES = ("docker/", "containerd/", "buildkit/", "Go-http-client/")
"""User agents of engines. They sign in by name and password: with the image store of containerd they fetch a token from
no host whose certificate is of a test, although they push to one on loopback."""


@dataclass(frozen=True)
class Grant:
    """What a token is good for.

    Attributes:
        kind: `refresh` or `access`.
        scopes: Type, name and actions, for an access token.
        expires: When it ends, in seconds since the epoch.
    """

    kind: str
    scopes: tuple[tuple[str, str, frozenset[str]], ...]
    expires: float


class Acr(AzureService):
    """A registry of its own with a front. The real one is started when it is first needed.

    Args:
        name: Its name in Azure.
        folder: Where it keeps everything.
        certificate: See `AzureService`.
        identity: See `AzureService`.

    Attributes:
        allowed: Actions that the identity may do.
        known: Whether the registry knows the identity at all.
        accounts: Passwords by user name.
        refresh_seconds: How long a refresh token is good.
        access_seconds: How long an access token is good.
    """

    def __init__(self, name: str, folder: Path, certificate: ssl.SSLContext, identity: ManagedIdentity) -> None:
        super().__init__(certificate, identity, AUDIENCE)
        self.name = name
        self.allowed = EVERYTHING
        self.known = True
        self.accounts: dict[str, str] = {}
        self.refresh_seconds: float = 3 * 3600
        self.access_seconds: float = 75 * 60
        self._storage = folder
        self._registry = OwnRegistry(folder)
        self._plain: OciRegistry | None = None
        self._starting = threading.Lock()
        self._grants: dict[str, Grant] = {}
        self.referrers = Referrers()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._plain is not None:
            self._registry.__exit__(*error)

    @property
    def plain(self) -> OciRegistry:
        """The real registry behind it, for tests to look at."""
        with self._starting:
            if self._plain is None:
                self._registry.__enter__()
                self._plain = OciRegistry(self._registry.host)
            return self._plain

    @property
    def tokens(self) -> list[str]:
        """Every token that was given."""
        return list(self._grants)

    def end_all_tokens(self) -> None:
        """Let every token of this registry end now."""
        for token, grant in list(self._grants.items()):
            self._grants[token] = Grant(grant.kind, grant.scopes, 0)

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
        """An error as registries write it."""
        code = _CODES.get(status, code)
        return Answer(status, {"errors": [{"code": code, "message": message}]}, headers or {})

    def handle(self, request: Request) -> Answer:
        """See `AzureService.handle`."""
        if request.path == "/oauth2/exchange":
            return self._exchange(request)
        if request.path == "/oauth2/token":
            return self._token(request)
        scope = _scope(request)
        if not self._may(request, scope):
            return self._challenge(request, scope)
        if request.path.startswith("/acr/v1/"):
            return self._own(request)
        listed = self.referrers.list(request.target)
        return Answer(headers=listed[0], content=listed[1]) if listed else self._pass_on(request)

    def lets_in(self, user: str, password: str) -> bool:
        """Whether this is a login."""
        return (
            self._good(password, "refresh") is not None if user == TOKEN_USER else self.accounts.get(user) == password
        )

    def _exchange(self, request: Request) -> Answer:
        form = request.form()
        asked = form.get("grant_type") == ["access_token"] and form.get("service") == [self.host]
        token = form.get("access_token", [""])[0]
        if not asked or not self.known or not self.identity.accepts(token, self.audience):
            return self.error(401, "UNAUTHORIZED", "authentication required")
        return Answer(document={"refresh_token": self._give("refresh", self.refresh_seconds)})

    def _token(self, request: Request) -> Answer:
        form = request.form() if request.method == "POST" else {name: [text] for name, text in request.query.items()}
        login = _basic(request)
        if not (self.lets_in(*login) if login else self._good(form.get("refresh_token", [""])[0], "refresh")):
            return self.error(401, "UNAUTHORIZED", "authentication required")
        scopes = (_parse_scope(text) for given in form.get("scope", []) for text in given.split())
        allowed = tuple((kind, name, actions & self.allowed) for kind, name, actions in scopes)
        return Answer(document={"access_token": self._give("access", self.access_seconds, allowed)})

    def _give(self, kind: str, seconds: float, scopes: tuple[tuple[str, str, frozenset[str]], ...] = ()) -> str:
        expires = time.time() + seconds
        token = new_token(aud=self.host, exp=int(expires), grant_type=f"{kind}_token")
        self._grants[token] = Grant(kind, scopes, expires)
        return token

    def _good(self, token: str, kind: str) -> Grant | None:
        grant = self._grants.get(token)
        return grant if grant and grant.kind == kind and grant.expires > time.time() else None

    def _may(self, request: Request, scope: tuple[str, str, frozenset[str]] | None) -> bool:
        login = _basic(request)
        if login:
            return self.lets_in(*login)
        grant = self._good(request.headers.get("Authorization", "").removeprefix("Bearer "), "access")
        if grant is None or scope is None:
            return grant is not None
        return any(scope[:2] == given[:2] and scope[2] <= given[2] for given in grant.scopes)

    def _challenge(self, request: Request, scope: tuple[str, str, frozenset[str]] | None) -> Answer:
        challenge = f'Bearer realm="{self.url}/oauth2/token",service="{self.host}"'
        if request.headers.get("User-Agent", "").startswith(_ENGINES):
            challenge = 'Basic realm="Azure Container Registry"'
        elif scope:
            challenge += f',scope="{scope[0]}:{scope[1]}:{",".join(sorted(scope[2], reverse=True))}"'
        headers = {"WWW-Authenticate": challenge, "Docker-Distribution-Api-Version": "registry/2.0"}
        return self.error(401, "UNAUTHORIZED", "authentication required", headers)

    def _own(self, request: Request) -> Answer:
        """ACR's own interface."""
        path = request.path.removeprefix("/acr/v1/")
        if path == "_catalog":
            return self._page(request, "repositories", self.plain.repositories(), str)
        found = re.fullmatch(r"(?P<repository>.+)/_tags(?:/(?P<tag>[^/]+))?", path)
        if not found:
            return self.error(404, "NOT_EMULATED", path)
        repository, tag = found["repository"], found["tag"]
        tags = [*self.plain.tags(repository), *self.plain.referrers_tags(repository)]
        if not tags:
            return self.error(404, "NAME_UNKNOWN", "repository name not known to registry")
        if not tag:
            return self._page(request, "tags", tags, lambda name: self._describe(repository, name))
        if tag not in tags:
            return self.error(404, "TAG_UNKNOWN", "the specified tag does not exist")
        if request.method == "DELETE":
            folder = self._storage / "docker/registry/v2/repositories" / repository / "_manifests/tags" / tag
            shutil.rmtree(folder)
            return Answer(202)
        return Answer(document={"imageName": repository, "tag": self._describe(repository, tag)})

    def _page(self, request: Request, key: str, names: Iterable[str], describe: Callable[[str], Any]) -> Answer:
        size, last = int(request.query.get("n", 100)), request.query.get("last", "")
        rest = sorted(name for name in names if name > last)
        page = rest[:size]
        more = len(rest) > size
        link = {"Link": f'<{quote(request.path)}?last={quote(page[-1], safe="")}&n={size}>; rel="next"'} if more else {}
        return Answer(document={"registry": self.host, key: [describe(name) for name in page]}, headers=link)

    def _describe(self, repository: str, tag: str) -> dict[str, Any]:
        digest = self.plain.digest(Reference(self.plain.host, repository, tag))
        times = {"createdTime": _TIME, "lastUpdateTime": _TIME}
        return {"name": tag, "digest": digest, **times, "signed": False, "changeableAttributes": _ATTRIBUTES}

    def _pass_on(self, request: Request) -> Answer:
        """The OCI protocol, to the real registry. It names this front in its locations, as it sees its host."""
        # Clients in Go repeat a header where others put commas.
        names = dict.fromkeys(name.lower() for name in request.headers if name.lower() not in _HOP)
        headers = {name: ", ".join(request.headers.get_all(name, [])) for name in names}
        upstream = http.client.HTTPConnection(self.plain.host, timeout=60)
        upstream.request(request.method, request.target, request.body, {**headers, "X-Forwarded-Proto": "https"})
        answer = upstream.getresponse()
        kept = {name: text for name, text in answer.getheaders() if name.lower() not in _HOP}
        if request.method == "HEAD":
            kept["Content-Length"] = answer.getheader("Content-Length", "0")
        content = answer.read()
        upstream.close()
        if answer.status in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            kept |= self.referrers.note(request.method, request.target, request.body or b"", self.plain.host)
        return Answer(answer.status, headers=kept, content=content)


def _scope(request: Request) -> tuple[str, str, frozenset[str]] | None:
    """What a request needs to be allowed; None is any token."""
    if request.path in ("/acr/v1/_catalog", "/v2/_catalog"):
        return "registry", "catalog", frozenset({"*"})
    own = re.fullmatch(r"/acr/v1/(?P<name>.+?)(?:/_(?:tags|manifests)(?:/.*)?)?", request.path)
    if own:
        action = {"DELETE": "delete", "PATCH": "metadata_write"}.get(request.method, "metadata_read")
        return "repository", own["name"], frozenset({action})
    found = re.match(r"/v2/(?P<name>.+)/(?:manifests|blobs|tags|referrers)/", request.path)
    actions = {"GET": {"pull"}, "HEAD": {"pull"}, "DELETE": {"delete"}}.get(request.method, {"pull", "push"})
    return ("repository", found["name"], frozenset(actions)) if found else None


def _parse_scope(text: str) -> tuple[str, str, frozenset[str]]:
    kind, _, rest = text.partition(":")
    name, _, actions = rest.rpartition(":")
    return kind, name, frozenset(actions.split(","))


def _basic(request: Request) -> tuple[str, str] | None:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind != "Basic":
        return None
    user, _, password = base64.b64decode(value).decode().partition(":")
    return user, password
