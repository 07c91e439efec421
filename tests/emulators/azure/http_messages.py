"""A request and an answer, as the emulators handle them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message


@dataclass(frozen=True)
class Request:
    """A request that was received whole.

    Attributes:
        method: E.g. `PUT`.
        target: Path and query as they were sent.
        headers: Names are found whatever their case; a name may come several times.
        body: Its bytes, chunks joined.
    """

    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The last value of every parameter."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def form(self) -> dict[str, list[str]]:
        """The body as a form."""
        return parse_qs(self.body.decode())


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        status: The HTTP status.
        document: Sent as JSON; None sends `content`.
        headers: Of the answer.
        content: Bytes to send if there is no document.
    """

    status: int = 200
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def body(self) -> bytes:
        """What is sent."""
        return self.content if self.document is None else json.dumps(self.document).encode()
