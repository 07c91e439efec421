"""What is wrong with the data of a file that has to be a model: every mistake at once, with its line and a hint."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from aml_images_dagster.wrong_value import wrong_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from aml_images_dagster.catalog.json_lines import Location, TextLines

Remark = tuple[int | None, str]
"""A line of the file, if there is one, and what is wrong there."""


def repeated_keys(where: TextLines) -> list[Remark]:
    """Keys that are there twice, of which a reader sees only the last."""
    return [(line, f"{_written(key)}: the key is there twice") for key, line in where.repeated]


def model_faults(error: ValidationError, model: type[BaseModel], data: object, where: TextLines) -> Iterator[Remark]:
    """Explain what pydantic found.

    Args:
        error: What it found.
        model: What the file has to be.
        data: What the file holds.
        where: The lines of the file.
    """
    schema = model.model_json_schema()
    meant: set[Location] = set()
    absent = []
    faults = error.errors(include_url=False)
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
            yield where.line(location), f"{name}{wrong_value(details)}"
    # A misspelt key is one mistake, though pydantic sees an unknown and a missing one.
    for location in absent:
        if location not in meant:
            yield where.line(location), f'"{_written(location)}" is missing'


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
