"""Signing in to a registry: Basic, and the bearer tokens of the distribution project.

Source: https://distribution.github.io/distribution/spec/auth/token/. The registry answers 401 and names a
token server; the server gives a short-lived token for one repository, to anonymous or known users.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.auth import AuthBase

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.messages import plain_reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.engine.interface import RegistryLogin

FindLogin = Callable[[], "RegistryLogin | None"]
"""Gives the login at the moment when it is needed: some expire."""

_DEFAULT_LIFE = 60
"""Seconds that a token lives when the server does not say, from the specification."""
_MARGIN = 10
_TOKEN = re.compile(r"[!-~]+")
# Of a list of challenges: the name of a scheme, or one parameter of the scheme before it. Source: RFC 9110, 11.6.1.
_CHALLENGE = re.compile(
    r"""[,\s]*(?:(?P<name>[\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))"""
    r"""|(?P<scheme>[\w!#$%&'*+.^`|~-]+)(?=[\s,]|$)|(?P<other>[^,]+))"""
)
_PORTS = {"http": 80, "https": 443}
_REPOSITORY = re.compile(r"/v2/(?P<name>.+)/(?:manifests|blobs|tags|referrers)/")


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    expires: float


class RegistryAuth(AuthBase):
    """Answers the challenges of one registry, and of no other host.

    Tokens are kept until they expire, one for each repository and kind of access.

    Args:
        url: Scheme, host and port of the registry's API.
        find_login: Gives name and password, or None for anonymous use.
        session: Used to ask token servers.
        timeout: Connect and read time-outs in seconds.
    """

    def __init__(
        self, url: str, find_login: FindLogin, session: requests.Session, timeout: tuple[float, float]
    ) -> None:
        self._origin = origin(url)
        self._host = urlsplit(url).netloc
        self._find_login = find_login
        self._session = session
        self._timeout = timeout
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._lock = threading.Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add what is known to be wanted, and answer a challenge."""
        # An upload or a page of a list may lead to another host; our login is not meant for it.
        if origin(request.url or "") != self._origin:
            return request
        token = self._known(_access(request))
        if token:
            request.headers["Authorization"] = token.header
        request.register_hook("response", self._answer)  # type: ignore[no-untyped-call]
        return request

    def _known(self, access: tuple[str, str]) -> _Token | None:
        with self._lock:
            token = self._tokens.get(access)
            return token if token and token.expires > time.monotonic() else None

    def _answer(self, response: requests.Response, **options: Any) -> requests.Response:
        challenge = response.headers.get("WWW-Authenticate", "")
        body = response.request.body
        repeatable = body is None or isinstance(body, str | bytes)
        # A redirect may have led to another host, whose challenge is none of ours.
        ours = origin(response.url) == self._origin
        if response.status_code != requests.codes.unauthorized or not ours or not repeatable:
            return response
        token = self._token(challenge)
        if token is None:
            return response
        with self._lock:
            self._tokens[_access(response.request)] = token
        _ = response.content  # lets the connection be used again
        response.close()
        again = response.request.copy()
        again.headers["Authorization"] = token.header
        answer: requests.Response = response.connection.send(again, **options)
        answer.history.append(response)
        answer.request = again
        return answer

    def _token(self, challenge: str) -> _Token | None:
        """What answers a challenge; None when we have nothing that could."""
        wanted = read_challenges(challenge)
        login = self._find_login()
        bearers = [given for scheme, given in wanted if scheme == "bearer"]
        if any(scheme == "basic" for scheme, _ in wanted) and login and not any(map(_realm, bearers)):
            return _Token(_basic(login).header, float("inf"))
        if bearers:
            return self._ask_token_server(next(filter(_realm, bearers), bearers[0]), login)
        return None

    def _ask_token_server(self, challenge: dict[str, str], login: RegistryLogin | None) -> _Token:
        realm = _realm(challenge)
        if realm is None:
            raise Unreachable(
                f"the registry names {challenge.get('realm', '')[:200]!r} as its token server",
                where=self._host,
                hint="Is it a registry?",
            )
        server = urlsplit(realm)
        if login and server.scheme == "http" and not is_loopback(server.hostname or ""):
            raise Unreachable(
                f"the registry wants the password sent to {realm} without encryption",
                where=self._host,
                hint="That is refused: the token server must be reached over https.",
            )
        wanted = {key: challenge[key] for key in ("service", "scope") if challenge.get(key)}
        if login:
            wanted["account"] = login.username
        try:
            answer = self._session.get(
                realm,
                params=wanted,
                auth=_basic(login) if login else _NoAuth(),
                timeout=self._timeout,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise Unreachable(
                f"the token server {server.netloc} does not answer: {plain_reason(error)}",
                where=self._host,
                hint="Is it running, and can this machine reach it?",
            ) from None
        if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
            who = f"the login of {login.username}" if login else "anonymous use"
            raise Unreachable(
                f"the token server {server.netloc} refuses {who} ({answer.status_code})",
                where=self._host,
                hint="Check the user name and the password." if login else f"Sign in to {self._host}.",
            )
        try:
            answer.raise_for_status()
            given = answer.json()
            token = _TOKEN.fullmatch(given.get("token") or given["access_token"])[0]  # type: ignore[index]
            life = float(given.get("expires_in") or _DEFAULT_LIFE)
        except (
            requests.RequestException,
            ArithmeticError,
            LookupError,
            ValueError,
            AttributeError,
            TypeError,
            RecursionError,
        ):
            raise Unreachable(
                f"the token server {server.netloc} answered {answer.status_code} without a token",
                where=self._host,
                hint="See the token server's own log.",
            ) from None
        return _Token(f"Bearer {token}", time.monotonic() + max(life - _MARGIN, 1))


class _Basic(AuthBase):
    def __init__(self, header: str) -> None:
        self.header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self.header
        return request


def _basic(login: RegistryLogin) -> _Basic:
    """A login as a header, in UTF-8 as engines write it."""
    pair = f"{login.username}:{login.password}".encode()
    return _Basic(f"Basic {base64.b64encode(pair).decode()}")


class _NoAuth(AuthBase):
    """Keeps requests from taking a login from ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _access(request: requests.PreparedRequest) -> tuple[str, str]:
    """Repository and kind of access of a request: what one token is good for."""
    found = _REPOSITORY.search(urlsplit(request.url or "").path)
    kind = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(request.method or "", "push")
    return (found["name"] if found else "", kind)


def read_challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """The challenges of `WWW-Authenticate`: each scheme with its parameters, names in lower case.

    What is no challenge is passed over: there may be others behind it.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for part in _CHALLENGE.finditer(header):
        if part["scheme"]:
            found.append((part["scheme"].lower(), {}))
        elif part["name"] and found:
            value = part["plain"] if part["quoted"] is None else re.sub(r"\\(.)", r"\1", part["quoted"])
            found[-1][1].setdefault(part["name"].lower(), value)
    return found


def _realm(challenge: Mapping[str, str]) -> str | None:
    """The URL of the token server; None when it is none."""
    realm = challenge.get("realm", "")
    scheme, host, _ = origin(realm)
    return realm if scheme in _PORTS and host else None


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL; empty where it is none. Source: RFC 6454."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return "", "", 0


def is_loopback(host: str) -> bool:
    """Whether a host name without port means this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may lead anywhere: 127.example.com
        return False
