"""Plain messages for invalid values, as pydantic reports them, and for failed connections, as libraries wrap them."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_WHOLE = "must be a whole number"
_NUMBER = "must be a number"
_DAY = "must be a day, written as YYYY-MM-DD"
_TEXT = "must be text"
_MAP = "must be a map of keys and values"

_PLAIN = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": _TEXT,
    "date_type": _DAY,
    "date_parsing": _DAY,
    "date_from_datetime_parsing": _DAY,
    "date_from_datetime_inexact": _DAY,
    "tuple_type": "must be a list",
    "dict_type": _MAP,
    "model_type": _MAP,
    "model_attributes_type": _MAP,
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}
"""By pydantic's type of fault; source: https://docs.pydantic.dev/latest/errors/validation_errors/."""

_LONGEST_SHOWN = 60


_FORMS: dict[str, str] = {}


def form(pattern: str, words: str) -> str:
    """A pattern of a field, with the words in which people are told what matches it, to follow `must be`."""
    _FORMS[pattern] = words
    return pattern


def wrong_value(details: ErrorDetails, *, show: bool = True) -> str:
    """A fault of a value as the text after the value's name and a colon.

    Args:
        details: What pydantic says of it.
        show: Whether the value may be repeated; that of a secret may not.
    """
    kind, told = details["type"], details.get("ctx", {})
    discriminator = told.get("discriminator", "").strip("'")
    if kind == "union_tag_invalid":
        return _unknown(discriminator, told["tag"], told["expected_tags"])
    if kind == "union_tag_not_found":
        return f"{_quoted(discriminator)} is missing"
    if kind == "literal_error":
        plain: str = "must be " + told["expected"].replace("'", '"')
    elif kind == "string_pattern_mismatch":
        plain = f"must be {_FORMS.get(told['pattern'], 'text of another form')}"
    elif kind in _PLAIN:
        plain = _PLAIN[kind].format(**told)
    else:
        message = details["msg"].removeprefix("Value error, ")
        return message if kind == "value_error" else lower_first(message)
    value = details["input"]
    is_short = isinstance(value, str | int | float | None) and len(str(value)) <= _LONGEST_SHOWN
    if not (show and is_short and plain.startswith("must be")):
        return plain
    known = re.findall(r"'([^']*)'", told["expected"]) if kind == "literal_error" else []
    close = difflib.get_close_matches(str(value), known, n=1)
    meant = f"; did you mean {_quoted(close[0])}?" if close else ""
    return f"{plain}, not {_quoted(value)}{meant}"


def lower_first(text: str) -> str:
    """A message as the text after a colon."""
    return text[:1].lower() + text[1:]


def _unknown(what: str, given: str, expected: str) -> str:
    known = expected.replace("'", "").split(", ")
    close = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean {_quoted(close[0])}?" if close else f"known are {', '.join(map(_quoted, known))}"
    return f"unknown {what} {_quoted(given)}; {hint}"


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


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
