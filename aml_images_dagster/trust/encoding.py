"""JSON and base64 of signed documents, read strictly: what was changed without a signature noticing is refused."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def to_json(document: Mapping[str, Any]) -> bytes:
    """A document in the one form in which it is written here."""
    return json.dumps(document, separators=(",", ":")).encode()


def json_object(content: bytes) -> dict[str, Any]:
    """The object that a document is; a name that is there twice is an error.

    Raises:
        ValueError: It is no such document.
    """
    try:
        document = json.loads(content, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of the content, not of the call
    return document


def text_of(document: Mapping[str, Any], name: str) -> str:
    """A text of a document.

    Raises:
        ValueError: It has none of this name.
    """
    value = document.get(name)
    if not isinstance(value, str):
        raise ValueError(f"no {name}")  # noqa: TRY004 - of the content, not of the call
    return value


def to_base64url(content: bytes) -> str:
    """Base64 of JWS. Source: RFC 7515, 2."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The content of `to_base64url`.

    Raises:
        ValueError: It is no such text, or another way to write the same bytes.
    """
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if to_base64url(content) != text:
        raise ValueError("another way to write base64")
    return content


def to_base64(content: bytes) -> str:
    """Base64 as most write it."""
    return base64.b64encode(content).decode()


def from_base64(text: str) -> bytes:
    """The content of `to_base64`.

    Raises:
        ValueError: It is no such text, or another way to write the same bytes.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if to_base64(content) != text:
        raise ValueError("another way to write base64")
    return content


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name is there twice")
    return document
