"""Reads JSON and YAML into pydantic models: every mistake at once, each with its line and a hint.

Source of JSON: https://www.rfc-editor.org/rfc/rfc8259; YAML: yaml_data.py.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.json_data import (
    MOST_DIGITS,
    Lines,
    Location,
    Remark,
    UnreadableError,
    corrected,
    written,
)
from aml_images_dagster.messages import wrong_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails


class StrictModel(BaseModel):
    """A model in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @classmethod
    def further_errors(cls, _data: Any) -> list[ErrorDetails]:
        """Errors that pydantic does not look for where it has found others; it may have found some of them.

        Args:
            _data: What a file contains.
        """
        return []


Model = TypeVar("Model", bound=StrictModel)


def read_model_file(
    model: type[Model], content: bytes, path: str, *, image: str = ""
) -> tuple[Model | None, tuple[Finding, ...]]:
    """Read a file into its model.

    Args:
        model: What the file has to be.
        content: The file's bytes.
        path: The file, relative to the repository, for the findings; `.yaml` is YAML, all else JSON.
        image: `<family>/<image name>`, for the findings; empty when the file belongs to none.

    Returns:
        The model, or None when the file is wrong; and what is wrong, sorted by line.
    """
    read: Model | None = None
    remarks: list[Remark]
    try:
        data, lines = _data(content, is_yaml=path.endswith(".yaml"))
        text = json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        remarks = [(content.count(b"\n", 0, error.start) + 1, "not UTF-8 text")]
    except UnicodeEncodeError:
        remarks = [(None, "a text has half of a surrogate pair (\\ud800 to \\udfff), which is no character")]
    except RecursionError:
        remarks = [(None, "nested too deeply")]
    except UnreadableError as error:
        remarks = [*error.args]
    except (TypeError, ValueError):
        remarks = [(None, "only text, numbers, true, false, null, lists and maps are allowed here")]
    else:
        remarks = list(lines.remarks)
        try:
            read = model.model_validate_json(text, strict=True)
        except ValidationError as error:
            data = json.loads(text)
            errors = [*error.errors(include_url=False), *model.further_errors(data)]
            remarks.extend(_faults(errors, model, data, lines))
    if remarks:
        read = None
    findings = {Finding(image, "error", message, path, line) for line, message in remarks}
    return read, tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.message)))


def json_lines(content: bytes) -> Lines:
    """Find the lines of a file that is valid JSON."""
    return _json_lines(content.decode("utf-8-sig"))


def _data(content: bytes, *, is_yaml: bool) -> tuple[Any, Lines]:
    text = content.decode("utf-8-sig")
    if not is_yaml:
        return _json_data(text)
    from aml_images_dagster.catalog.yaml_data import yaml_data  # takes longer than reading a folder of images

    return yaml_data(text)


# JSON

# Enough for a text that `json.loads` has accepted.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def _json_data(text: str) -> tuple[Any, Lines]:
    # `check_number` remarks upon what becomes 0 here.
    def whole(digits: str) -> int:
        return int(digits) if len(digits) <= MOST_DIGITS else 0

    def finite(number: str) -> float:
        return float(number) if math.isfinite(float(number)) else 0

    def load(text: str) -> Any:
        return json.loads(text, parse_int=whole, parse_float=finite, parse_constant=finite)

    try:
        return load(text), _json_lines(text)
    except json.JSONDecodeError:
        meant, remarks = corrected(text, load)
        if meant is None:
            raise UnreadableError(*remarks) from None
        lines = _json_lines(meant)
        lines.remarks.extend(remarks)
        return load(meant), lines


def _json_lines(text: str) -> Lines:
    found = Lines()
    location: list[str | int] = []
    awaits_key = False
    line, scanned = 1, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", scanned, token.start())
        scanned = token.start()
        match token.group():
            case "{" | "[" as opening:
                found.lines.setdefault(tuple(location), line)
                awaits_key = opening == "{"
                location.append("" if awaits_key else 0)
            case "}" | "]":
                location.pop()
                awaits_key = False
            case ",":
                last = location[-1]
                awaits_key = isinstance(last, str)
                location[-1] = "" if isinstance(last, str) else last + 1
            case ":":
                awaits_key = False
            case key if awaits_key:
                location[-1] = json.loads(key)
                found.add_key(tuple(location), line)
            case value:
                found.lines.setdefault(tuple(location), line)
                if value[0] in "-0123456789NI":  # NaN and Infinity, which Python reads
                    found.check_number(value, tuple(location), line)
    return found


# Faults of the model


def _faults(faults: list[ErrorDetails], model: type[BaseModel], data: object, lines: Lines) -> Iterator[Remark]:
    """Explain what pydantic found.

    Args:
        faults: What it found.
        model: What the file has to be.
        data: What the file contains.
        lines: The lines of the file.
    """
    schema = model.model_json_schema()
    meant: set[Location] = set()
    absent = []
    for details in faults:
        location = _in_file(details, data)
        if details["type"] == "json_invalid":  # Of a text that `json` has written, only this is left.
            yield None, "nested too deeply"
        elif details["type"] == "missing":
            absent.append(location)
        elif details["type"] == "extra_forbidden":
            known, others = _known_keys(schema, location, data)
            if key_of := others.get(str(location[-1])):
                yield lines.line(location), f'"{written(location)}" is a key of {key_of}'
                continue
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            meant.update((*location[:-1], key) for key in close)
            all_known = f"; known keys: {', '.join(sorted(known))}" if known else ""
            hint = f'; did you mean "{close[0]}"?' if close else all_known
            yield lines.line(location), f'unknown key "{written(location)}"{hint}'
        elif location not in lines.not_held and not _counts_good_items_only(details, faults):
            name = f"{written(location)}: " if location else ""
            yield lines.line(location), f"{name}{wrong_value(details)}"
    # A misspelt key is one mistake, though pydantic sees an unknown and a missing one.
    for location in absent:
        if location not in meant:
            yield lines.line(location), f'"{written(location)}" is missing'


def _in_file(details: ErrorDetails, data: Any) -> Location:
    """Pydantic's location without the names of union members, which are not in the file.

    A check of a whole object can name what is wrong in it as `below`: pydantic knows the object only.
    """
    real: list[int | str] = []
    for step in (*details["loc"], *details.get("ctx", {}).get("below", ())):
        if step in data if isinstance(data, dict) else isinstance(data, list) and isinstance(step, int):
            data = data[step]
            real.append(step)
    if details["type"] == "missing":
        real.append(details["loc"][-1])
    return tuple(real)


def _counts_good_items_only(details: ErrorDetails, faults: list[ErrorDetails]) -> bool:
    """Whether a list is too short for pydantic because its bad items, which are faults of their own, do not count."""
    place = details["loc"]
    inside = (len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in faults)
    return details["type"] == "too_short" and any(inside)


def _known_keys(schema: dict[str, Any], location: Location, data: Any) -> tuple[set[str], dict[str, str]]:
    """The keys that an object may have.

    Args:
        schema: That of the whole file.
        location: A key of the object.
        data: What the file contains.

    Returns:
        The keys; and those that it would have if it were of another kind, each with both kinds in words.
    """
    objects = _alternatives([schema], schema)
    for step in location[:-1]:
        data = data[step]
        below = [each.get("items") if isinstance(step, int) else _below(each, step) for each in objects]
        objects = _alternatives([each for each in below if isinstance(each, dict)], schema)
    known: set[str] = set()
    others: dict[str, str] = {}
    for each in objects:
        properties = each.get("properties", {})
        kinds = {name: kind["const"] for name, kind in properties.items() if "const" in kind}
        wrong = next((name for name, kind in kinds.items() if data.get(name, kind) != kind), None)
        if wrong is None:
            known.update(properties)
        else:
            words = f'{wrong} "{kinds[wrong]}", not of {wrong} "{data[wrong]}"'
            others |= dict.fromkeys(properties, words)
    return known, {name: words for name, words in others.items() if known and name not in known}


def _below(schema: dict[str, Any], key: str) -> Any:
    """The schema of a key's value; the keys of a map are all alike."""
    properties, patterns = schema.get("properties", {}), [*schema.get("patternProperties", {}).values()]
    return properties.get(key, patterns[0] if patterns else schema.get("additionalProperties"))


def _alternatives(schemas: list[dict[str, Any]], whole: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be by its schema: references are followed, unions taken apart."""
    found: list[dict[str, Any]] = []
    for schema in schemas:
        if name := str(schema.get("$ref", "")).rpartition("/")[2]:
            found += _alternatives([whole["$defs"][name]], whole)
        elif parts := schema.get("anyOf") or schema.get("oneOf"):
            found += _alternatives(parts, whole)
        else:
            found.append(schema)
    return found
