"""Reading tests.json and image.json: everything that is wrong at once, each with its line and a hint."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.json_lines import JsonLines, Location, locate
from aml_images_dagster.catalog.tests_file import StrictModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=StrictModel)


def read_json_file(
    model: type[Model], content: bytes, *, image: str, path: str
) -> tuple[Model | None, tuple[Finding, ...]]:
    """Read a file into its model.

    Args:
        model: What the file has to be.
        content: The file's bytes.
        image: `<family>/<image name>`, for the findings.
        path: The file, relative to the repository, for the findings.

    Returns:
        The model, or None when the file is wrong; and what is wrong, sorted by line.
    """
    read: Model | None = None
    remarks: list[tuple[int | None, str]]
    try:
        text = content.decode("utf-8-sig")
        data = json.loads(text)
    except UnicodeDecodeError as error:
        remarks = [(content.count(b"\n", 0, error.start) + 1, "not UTF-8 text")]
    except json.JSONDecodeError as error:
        remarks = [(error.lineno, f"not valid JSON: {_lower(error.msg)}, at column {error.colno}")]
    except RecursionError:
        remarks = [(None, "nested too deeply")]
    else:
        where = locate(text)
        remarks = [(line, f"{_written(key)}: the key is there twice") for key, line in where.repeated]
        try:
            read = model.model_validate_json(text, strict=True)
        except ValidationError as error:
            remarks.extend(_explain(error, model, data, where))
    if remarks:
        read = None
    findings = {Finding(image, "error", message, path, line) for line, message in remarks}
    return read, tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.message)))


def _explain(
    error: ValidationError, model: type[StrictModel], data: object, where: JsonLines
) -> Iterator[tuple[int | None, str]]:
    schema = model.model_json_schema()
    meant: set[Location] = set()
    absent = []
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    for details in faults:
        location = _in_text(details, data)
        if details["type"] == "missing":
            absent.append(location)
        elif details["type"] == "extra_forbidden":
            known = _known_keys(schema, location)
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            meant.update((*location[:-1], key) for key in close)
            hint = f'; did you mean "{close[0]}"?' if close else f"; known keys: {', '.join(sorted(known))}"
            yield where.line(location), f'unknown key "{_written(location)}"{hint}'
        elif details["type"] != "too_short" or not any(_is_inside(other, details) for other in faults):
            # Else pydantic counts only the good items of a list, and the bad ones are told already.
            name = f"{_written(location)}: " if location else ""
            yield where.line(location), f"{name}{_lower(_message(details))}"
    # A misspelt key is one mistake, though pydantic sees an unknown and a missing one.
    for location in absent:
        if location not in meant:
            yield where.line(location), f'"{_written(location)}" is missing'


def _message(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ")
    return "this text does not have the required form" if details["type"] == "string_pattern_mismatch" else message


def _in_text(details: ErrorDetails, data: Any) -> Location:
    """Pydantic's location without the names of union members, which are not in the text."""
    real: list[int | str] = []
    for step in details["loc"]:
        if step in data if isinstance(data, dict) else isinstance(data, list) and isinstance(step, int):
            data = data[step]
            real.append(step)
    if details["type"] == "missing":
        real.append(details["loc"][-1])
    return tuple(real)


def _is_inside(inner: ErrorDetails, outer: ErrorDetails) -> bool:
    return len(inner["loc"]) > len(outer["loc"]) and inner["loc"][: len(outer["loc"])] == outer["loc"]


def _known_keys(schema: dict[str, Any], location: Location) -> set[str]:
    """The keys of the file's own object, or those of any object inside of it."""
    objects = [schema] if len(location) == 1 else schema.get("$defs", {}).values()
    return {name for each in objects for name in each.get("properties", {})}


def _written(location: Location) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
