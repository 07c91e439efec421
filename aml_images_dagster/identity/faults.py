"""What a fault of an Azure service means, and what the user can do about it.

Signatures in URLs give access to what the URL names, so they are never printed. Azure signs URLs of blobs with the
parameter `sig` (https://learn.microsoft.com/rest/api/storageservices/create-service-sas). The SDKs leave it out of
their own logs, but what they are built on writes whole URLs into its log and its exceptions.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aml_images_dagster.errors import BadInput, FactoryError, Unreachable
from aml_images_dagster.messages import plain_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUTS: dict[str, Any] = {
    "retry_total": 6,
    "retry_status": 6,
    "retry_connect": 2,
    "retry_read": 2,
    "retry_backoff_max": 20,
    "connection_timeout": 10,
    "read_timeout": 60,
}
"""Options of every Azure SDK client: how often a request is repeated (`Retry-After` is honoured), and seconds."""
_SIGNATURE = re.compile(r"(?i)\b(sig=)[^&\s\"']+")


@contextmanager
def explained(where: str, asking: str, *, role: str = "") -> Iterator[None]:
    """Turn exceptions of an Azure SDK into a `FactoryError`.

    Args:
        where: The service as a person knows it, e.g. `contoso.azurecr.io` or `workspace images-tests`.
        asking: What it was asked, e.g. `to import base:1`.
        role: The Azure role that allows it, for the message.

    Raises:
        BadInput: There is no such thing.
        Unreachable: Everything else.
    """
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise fault(error, where, asking, role=role) from None


def fault(error: Exception, where: str, asking: str, *, role: str = "") -> FactoryError:
    """The failure that an exception of an Azure SDK stands for; see `explained`."""
    status = getattr(error, "status_code", None)
    said = _said(error)
    if status is None:
        return Unreachable(
            f"asked {asking}, it does not answer: {plain_reason(said)}",
            where=where,
            hint="Is the name right, and can this machine reach it (proxy, firewall, private endpoint)?",
        )
    told = f"(HTTP {status}: {said})"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        hint = f"Give this identity the role {role} there" if role else "Ask its owner for the right to do it"
        return Unreachable(
            f"asked {asking}, this identity may not do that {told}",
            where=where,
            hint=f"{hint}; a new role takes some minutes to be known everywhere.",
        )
    if status == HTTPStatus.NOT_FOUND:
        return BadInput(
            f"asked {asking}, it does not exist {told}", where=where, hint="Check the names in the settings."
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Unreachable(
            f"asked {asking}, too many requests {told}", where=where, hint="Wait some minutes, or run fewer builds."
        )
    return Unreachable(
        f"asked {asking}, the request failed {told}", where=where, hint="See the activity log in the Azure portal."
    )


def _said(error: Exception) -> str:
    """The service's own words, in one line, without the SDK's decoration."""
    inner = getattr(error, "error", None)
    message = str(getattr(inner, "message", None) or getattr(error, "message", None) or error)
    return redacted(re.sub(r"\s+", " ", message.partition("\nCode:")[0]).strip().rstrip("."))


def redacted(text: str) -> str:
    """A text without the signatures in it."""
    return _SIGNATURE.sub(r"\1REDACTED", text)


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "sig=" in message.lower():
            record.msg, record.args = redacted(message), None
        return True


_REDACTING = _Redacting()


def keep_out_of_logs() -> None:
    """Take signatures out of what urllib3 logs at level DEBUG, in this process. May be called any number of times."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_REDACTING)
