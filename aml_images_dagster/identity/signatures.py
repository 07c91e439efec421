"""Signatures in URLs: they give access to what the URL names, so they are never printed.

Azure signs URLs of blobs with the parameter `sig`
(https://learn.microsoft.com/rest/api/storageservices/create-service-sas). The SDKs leave it out of their own logs, but
what they are built on writes whole URLs into its log and its exceptions.
"""

from __future__ import annotations

import logging
import re

_SIGNATURE = re.compile(r"(?i)\b(sig=)[^&\s\"']+")


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
