"""HTTP with retries and with limits.

A request that a busy server refuses is repeated when the server says so. Answers have limits of time and size.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader, MaxRetryError, ResponseError

from aml_images_dagster.bounded import TooLong, joined
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.http_connection import (
    LimitedHttpPool,
    LimitedHttpsPool,
    NotPublic,
    PublicHttpsPool,
    check_public,
    size_limit,
    time_limit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from urllib3 import BaseHTTPResponse
    from urllib3.connectionpool import ConnectionPool

# 500: distribution's registry says it while another request writes the tag that this one reads.
_RETRIED = (429, 500, 502, 503, 504)
_REPEAT_AS_IT_WAS = (requests.codes.temporary_redirect, requests.codes.permanent_redirect)
LONGEST_PAUSE = 20
"""Seconds; a server that wants a longer pause is given up at once."""
_NO_LIMIT = 10**9
_MOST_REDIRECTS = 5
_LONGEST_ANSWER = 32 * 2**20
_LONGEST_ANSWER_OF_A_STRANGER = 4 * 2**20
"""What a registry has to take as a manifest, by the distribution-spec, "Pushing Manifests"."""
_ANSWER_SECONDS = 300.0
_ANSWER_SECONDS_OF_A_STRANGER = 30.0
_HEADER_BYTES = 256 * 1024
_PIECE_BYTES = 64 * 1024
_SETTING = "AML_IMAGES_TRUSTED_REGISTRIES"


class Untrusted(Unreachable):
    """A host that no setting names leads to an address that only trusted hosts may lead to."""


def open_session(*, loopback: bool, repeat: bool, stranger: str = "") -> requests.Session:
    """A session whose answers have a limit in size and time; a streamed body has none before `time_limit` sets one.

    It raises `Unreachable` for an answer that is too large, and for one that leads from https to http.

    Args:
        loopback: It is for this machine: a proxy that the environment names is for the world outside.
        repeat: Whether requests that failed for the moment are repeated. What is streamed can't be sent twice.
        stranger: The host that it is for, when no setting names that host. Then it and whatever it redirects to is
            reached over https and at public addresses only; all else raises `Untrusted`. Behind a proxy, what
            has no address here is the proxy's to refuse.
    """
    session = requests.Session() if stranger else _Session()
    session.trust_env = not loopback
    session.max_redirects = _MOST_REDIRECTS
    if loopback:
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    retry = _Retry(
        total=4,
        connect=1,
        read=1,
        status=4,
        other=0,
        status_forcelist=_RETRIED,
        allowed_methods=("GET", "HEAD", "PUT", "DELETE", "POST"),
        backoff_factor=0.3,
        raise_on_status=False,
    )
    adapter = _Adapter(retry if repeat else Retry(0, read=False), stranger)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def asked_pause(headers: Mapping[str, str]) -> float:
    """The seconds for which a server wants to be left alone; 0 when it does not say, or says nothing that can be read.

    Source: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after.
    """
    try:
        return Retry(retry_after_max=_NO_LIMIT).parse_retry_after(headers.get("Retry-After", ""))
    except (InvalidHeader, ValueError, OverflowError):  # also a number or a year that is none
        return 0.0


class _Retry(Retry):
    """Makes the pause that a server asks for, unless it is too long: then its answer is the last one."""

    def parse_retry_after(self, retry_after: str) -> float:
        return asked_pause({"Retry-After": retry_after})

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if response is not None and asked_pause(response.headers) > LONGEST_PAUSE and _pool is not None:
            raise MaxRetryError(_pool, url or "", ResponseError("it asks for a longer pause"))
        return super().increment(method, url, response, error, _pool, _stacktrace)


class _Session(requests.Session):
    """Follows no redirect that gives up encryption, and none that gives up what was sent.

    After 301, 302 and 303 requests repeats a PUT without its body, or as GET: a registry would be given an empty
    manifest, or a GET taken for a DELETE that went well. 307 and 308 repeat a request as it was.
    Source: https://www.rfc-editor.org/rfc/rfc9110#section-15.4.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and resp.request.method not in ("GET", "HEAD") and resp.status_code not in _REPEAT_AS_IT_WAS:
            raise Unreachable(
                f"it answers {resp.request.method} by a redirect that loses what is sent (HTTP {resp.status_code}), "
                f"to {target[:200]}",
                where=urlsplit(resp.url).netloc,
                hint="Give the address that it leads to.",
            )
        if target and resp.url.startswith("https:") and urlsplit(urljoin(resp.url, target)).scheme == "http":
            raise Unreachable(
                f"it leads from https to {target[:200]}, which is not encrypted",
                where=urlsplit(resp.url).netloc,
                hint="Is there a proxy in front of it that does not know that it is reached by https?",
            )
        return target


class _Adapter(HTTPAdapter):
    """Reads every answer to its end, but for a success that is streamed."""

    def __init__(self, retry: Retry, stranger: str) -> None:
        self._stranger = stranger
        self._longest = _LONGEST_ANSWER_OF_A_STRANGER if stranger else _LONGEST_ANSWER
        self._seconds = _ANSWER_SECONDS_OF_A_STRANGER if stranger else _ANSWER_SECONDS
        super().__init__(max_retries=retry)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        https = PublicHttpsPool if self._stranger else LimitedHttpsPool
        self.poolmanager.pool_classes_by_scheme = {"http": LimitedHttpPool, "https": https}

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = {"http": LimitedHttpPool, "https": LimitedHttpsPool}
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        if self._stranger:
            self._check(request, proxies)
        try:
            with self._limit(request), size_limit(self._longest + _HEADER_BYTES, streamed=stream):
                answer = super().send(request, stream, timeout, verify, cert, proxies)
                if not stream or not answer.ok or answer.is_redirect:
                    _read(answer, self._longest)
        except TooLong as fault:
            raise Unreachable(
                f"the answer has {fault}",
                where=_host(request),
                hint="Check the address: a valid answer is never that long.",
            ) from None
        except NotPublic as fault:
            raise self._untrusted(fault) from None
        return answer

    def _limit(self, request: requests.PreparedRequest) -> AbstractContextManager[None]:
        """A limit for the answer; what is streamed to the server takes as long as the caller lets it."""
        is_whole = request.body is None or isinstance(request.body, str | bytes)
        return time_limit(self._seconds) if is_whole else nullcontext()

    def _check(self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None) -> None:
        url = urlsplit(request.url or "")
        if url.scheme != "https":
            raise Untrusted(f"it leads to {url.scheme}://{url.netloc}, which is not https", **self._hint())
        if proxies and select_proxy(request.url or "", dict(proxies)):
            try:
                check_public(url.hostname or "", url.port or 443)
            except NotPublic as fault:
                raise self._untrusted(fault) from None
            except OSError:
                pass  # the proxy knows the name

    def _untrusted(self, fault: NotPublic) -> Untrusted:
        address = fault.host if fault.host == fault.address else f"{fault.host} ({fault.address})"
        return Untrusted(f"it leads to {address}, which is not a public address", **self._hint())

    def _hint(self) -> dict[str, str]:
        return {
            "where": self._stranger,
            "hint": f"No setting names this registry; if you trust it, add {self._stranger} to {_SETTING}.",
        }


def _read(answer: requests.Response, longest: int) -> None:
    """Read the body, decoded, within its limit."""
    try:
        # Where requests keeps what it has read. It has no limit of its own.
        answer._content = joined(answer.iter_content(_PIECE_BYTES), longest)
    except BaseException:
        answer.close()
        raise


def _host(request: requests.PreparedRequest) -> str:
    return urlsplit(request.url or "").netloc
