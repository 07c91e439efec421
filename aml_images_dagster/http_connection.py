"""Connections with limits of time and size, optionally to public addresses only.

The time-outs of urllib3 and requests count from byte to byte, so a server that sends one now and then never times out.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family, create_connection

from aml_images_dagster.bounded import TooLong

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUCCESS = 2
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Azure's own for every machine, although it is a public one:
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
_WIRE_SERVER = ipaddress.ip_address("168.63.129.16")

_deadline: ContextVar[float] = ContextVar("_deadline", default=float("inf"))
_size: ContextVar[tuple[int, bool]] = ContextVar("_size", default=(sys.maxsize, True))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the total time of all answers of this thread inside the block; nested limits: the shorter one counts."""
    before = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(before)


@contextmanager
def size_limit(longest: int, *, streamed: bool) -> Iterator[None]:
    """Inside of the block an answer of this thread has so many bytes as they are sent; more raise `TooLong`.

    Args:
        longest: The limit.
        streamed: The body of a success does not count: the caller reads it in chunks.
    """
    before = _size.set((longest, streamed))
    try:
        yield
    finally:
        _size.reset(before)


class NotPublic(Exception):  # noqa: N818
    """A host has an address that is not public.

    Attributes:
        host: Its name, or the address itself.
        address: The address.
    """

    def __init__(self, host: str, address: str) -> None:
        super().__init__(host, address)
        self.host = host
        self.address = address


def check_public(host: str, port: int) -> list[str]:
    """All addresses of a host, each of them public.

    Raises:
        NotPublic: One is not.
        OSError: The name cannot be resolved.
    """
    found = socket.getaddrinfo(host.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_public(address):
            raise NotPublic(host, address)
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address leads to the internet; also checks the IPv4 address that an IPv6 address may contain."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        within = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if ip in _NAT64:
            within = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if within is not None:
            return is_public(str(within))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and ip != _WIRE_SERVER


class _Line(io.RawIOBase):
    """The socket of one answer, read until time is up or there is too much."""

    def __init__(self, source: io.RawIOBase, sock: socket.socket, longest: int) -> None:
        self._source = source
        self._socket = sock
        self._patience = sock.gettimeout()
        self._longest = longest
        self._left: float = longest

    def unlimited(self) -> None:
        """Remove the limit of size."""
        self._left = float("inf")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = _deadline.get() - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(seconds if self._patience is None else min(self._patience, seconds))
        count = self._source.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise TooLong(self._longest)
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        longest, self._streamed = _size.get()
        self._line = _Line(self.fp.detach(), sock, longest)
        self.fp = io.BufferedReader(self._line)

    def begin(self) -> None:
        super().begin()
        if self._streamed and self.status // 100 == _SUCCESS:
            self._line.unlimited()


class _Limited(HTTPConnection):
    response_class = _Answer

    def connect(self) -> None:
        if _deadline.get() <= time.monotonic():
            raise TimeoutError("timed out")
        super().connect()


class _LimitedHttps(_Limited, HTTPSConnection):
    pass


class _PublicHttps(_LimitedHttps):
    """Connects to the very addresses that were checked: a name may stand for another one a moment later."""

    def _new_conn(self) -> socket.socket:
        try:
            addresses = check_public(self.host, self.port)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        refused: OSError = TimeoutError("timed out")
        for address in addresses:
            if _deadline.get() <= time.monotonic():
                break
            try:
                return create_connection((address, self.port), self.timeout, self.source_address, self.socket_options)
            except OSError as error:
                refused = error
        raise NewConnectionError(self, f"Failed to establish a new connection: {refused}") from refused


class LimitedHttpPool(HTTPConnectionPool):
    """Connections whose answers have the limits of `time_limit` and `size_limit`."""

    ConnectionCls = _Limited


class LimitedHttpsPool(HTTPSConnectionPool):
    """The same with TLS."""

    ConnectionCls = _LimitedHttps


class PublicHttpsPool(HTTPSConnectionPool):
    """The same, to public addresses alone; raises `NotPublic`."""

    ConnectionCls = _PublicHttps
