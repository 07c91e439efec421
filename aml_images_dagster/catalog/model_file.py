"""A JSON or YAML file that has to be a model, read: every mistake at once, each with its line and a hint.

In YAML, plain words are text, numbers, `true`, `false` or `null`, as in the core schema of YAML 1.2, without octal and
hexadecimal numbers. PyYAML's own rules are those of YAML 1.1, by which `on` is true and `10:30` is 630.

Sources: https://www.rfc-editor.org/rfc/rfc8259, https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import override

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.messages import lower_first, wrong_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails


class StrictModel(BaseModel):
    """A model in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


Model = TypeVar("Model", bound=StrictModel)

Location = tuple[str | int, ...]
"""The way from the root of a file to a value: keys of objects and indexes of lists."""

Remark = tuple[int | None, str]
"""A line of the file, if there is one, and what is wrong there."""

# No key takes a number of more digits; Python converts no text of more than 4,300.
_MOST_DIGITS = 300


@dataclass(frozen=True, slots=True)
class Lines:
    """Where things are in a file.

    Attributes:
        lines: The line, counted from 1, of every value; in objects that of its key.
        remarks: What is wrong in the text although a reader accepts it: keys that are there twice, of which a reader
            sees only the last, and numbers that it cannot hold.
        not_held: Where those numbers are; the data have 0 in their place.
    """

    lines: dict[Location, int] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    not_held: set[Location] = field(default_factory=set)

    def line(self, location: Location) -> int | None:
        """The line of a value, or of the innermost value around it that exists."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location)

    def add_key(self, location: Location, line: int) -> None:
        """Remember the key of an object."""
        if location in self.lines:
            self.remarks.append((line, f"{_written(location)}: the key is there twice"))
        self.lines[location] = line

    def check_number(self, number: str, location: Location, line: int) -> bool:
        """Whether a number can be held; one that cannot is remarked upon."""
        digits = sum(map(str.isdigit, number))
        if digits > _MOST_DIGITS:
            fault = f"a number of {digits:,} digits is too long"
        elif not math.isfinite(float(number)):
            fault = f"{number} is not a finite number"
        else:
            return True
        self.not_held.add(location)
        self.remarks.append((line, f"{_written(location)}: {fault}" if location else fault))
        return False


class _UnreadableError(Exception):
    """The text is none of its format; `args` are a `Remark`."""


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
    except _UnreadableError as error:
        remarks = [error.args]
    except (TypeError, ValueError):
        remarks = [(None, "only text, numbers, true, false, null, lists and maps are allowed here")]
    else:
        remarks = list(lines.remarks)
        try:
            read = model.model_validate_json(text, strict=True)
        except ValidationError as error:
            remarks.extend(_faults(error, model, json.loads(text), lines))
    if remarks:
        read = None
    findings = {Finding(image, "error", message, path, line) for line, message in remarks}
    return read, tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.message)))


def json_lines(content: bytes) -> Lines:
    """Find the lines of a file that is valid JSON."""
    return _json_lines(content.decode("utf-8-sig"))


def _data(content: bytes, *, is_yaml: bool) -> tuple[Any, Lines]:
    text = content.decode("utf-8-sig")
    return _yaml_data(text) if is_yaml else _json_data(text)


# JSON

# Enough for a text that `json.loads` has accepted.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def _json_data(text: str) -> tuple[Any, Lines]:
    # `check_number` remarks upon what becomes 0 here.
    def whole(digits: str) -> int:
        return int(digits) if len(digits) <= _MOST_DIGITS else 0

    def finite(number: str) -> float:
        return float(number) if math.isfinite(float(number)) else 0

    try:
        data = json.loads(text, parse_int=whole, parse_float=finite, parse_constant=finite)
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {lower_first(error.msg)}, at column {error.colno}"
        raise _UnreadableError(error.lineno, message) from None
    return data, _json_lines(text)


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


# YAML


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way

    @override
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "an alias (*name) is not allowed here; write it out", mark)
        return super().compose_node(parent, index)


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
for _tag, _form, _first in (
    ("tag:yaml.org,2002:null", r"~|null|", ["~", "n", ""]),
    ("tag:yaml.org,2002:bool", r"true|false", ["t", "f"]),
    (_INT, r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (_FLOAT, r"[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_form})$"), _first)


def _yaml_data(text: str) -> tuple[Any, Lines]:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines = _yaml_lines(node)
        return loader.construct_document(node) if node else None, lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise _UnreadableError(line, f"not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise _UnreadableError(None, f"not valid YAML: {error}") from None


def _yaml_lines(root: yaml.Node | None) -> Lines:
    """Find the lines; a number that cannot be held is remarked upon and becomes 0."""
    found = Lines()

    def visit(node: yaml.Node, location: Location) -> None:
        line = node.start_mark.line + 1
        found.lines.setdefault(location, line)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                visit(item, (*location, index))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inside = (*location, str(key.value))
                found.add_key(inside, key.start_mark.line + 1)
                visit(value, inside)
        elif node.tag in (_INT, _FLOAT) and not found.check_number(node.value, location, line):
            node.value = "0"

    if root is not None:
        visit(root, ())
    return found


# Faults of the model


def _faults(error: ValidationError, model: type[BaseModel], data: object, lines: Lines) -> Iterator[Remark]:
    """Explain what pydantic found.

    Args:
        error: What it found.
        model: What the file has to be.
        data: What the file contains.
        lines: The lines of the file.
    """
    schema = model.model_json_schema()
    meant: set[Location] = set()
    absent = []
    faults = error.errors(include_url=False)
    for details in faults:
        location = _in_file(details, data)
        if details["type"] == "json_invalid":  # Of a text that `json` has written, only this is left.
            yield None, "nested too deeply"
        elif details["type"] == "missing":
            absent.append(location)
        elif details["type"] == "extra_forbidden":
            known = _known_keys(schema, location)
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            meant.update((*location[:-1], key) for key in close)
            hint = f'; did you mean "{close[0]}"?' if close else f"; known keys: {', '.join(sorted(known))}"
            yield lines.line(location), f'unknown key "{_written(location)}"{hint}'
        elif location not in lines.not_held and not _counts_good_items_only(details, faults):
            name = f"{_written(location)}: " if location else ""
            yield lines.line(location), f"{name}{wrong_value(details)}"
    # A misspelt key is one mistake, though pydantic sees an unknown and a missing one.
    for location in absent:
        if location not in meant:
            yield lines.line(location), f'"{_written(location)}" is missing'


def _in_file(details: ErrorDetails, data: Any) -> Location:
    """Pydantic's location without the names of union members, which are not in the file."""
    real: list[int | str] = []
    for step in details["loc"]:
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


def _known_keys(schema: dict[str, Any], location: Location) -> set[str]:
    """The keys of the file's own object, or those of any object inside of it."""
    objects = [schema] if len(location) == 1 else schema.get("$defs", {}).values()
    return {name for each in objects for name in each.get("properties", {})}


def _written(location: Location) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")
