"""Why a connection failed, without the layers of wrapping that libraries put around it."""

from __future__ import annotations

import re

_PLAIN_HTTP = re.compile(r"WRONG_VERSION_NUMBER|wrong version number|HTTP_REQUEST|RECORD_LAYER_FAILURE")
_REASONS = (
    r"\[Errno -?\d+\] ([^'\")]+)",
    r"certificate verify failed: ([^('\")]+)",
    r"\[SSL: \w+\] ([^('\")]+)",
    r"\w+Error\(\d+, ['\"]([^'\"]+)",
    r"Caused by (.+)",
)


def plain_reason(error: Exception | str) -> str:
    """The reason in the words of the operating system, or the whole text where there is none in it."""
    text = str(error)
    if "timed out" in text:
        return "no answer in time"
    if _PLAIN_HTTP.search(text):
        return "it speaks plain HTTP where HTTPS is needed"
    found = next(filter(None, (re.search(pattern, text) for pattern in _REASONS)), None)
    return found.group(1).strip() if found else text
