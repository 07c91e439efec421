"""Reading YAML into a model: everything that is wrong at once, each with its line and a hint.

Plain words are text, numbers, `true`, `false` or `null`, as in the core schema of YAML 1.2, without octal and
hexadecimal numbers. PyYAML's own rules are those of YAML 1.1, by which `on` is true and `10:30` is 630.

Source: https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import json
import re
from typing import TypeVar

import yaml
from pydantic import ValidationError

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.json_lines import Location, TextLines
from aml_images_dagster.catalog.model_faults import Remark, model_faults, repeated_keys
from aml_images_dagster.catalog.tests_file import StrictModel

Model = TypeVar("Model", bound=StrictModel)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "an alias (*name) is not taken here; write it out", mark)
        return super().compose_node(parent, index)


for _tag, _form, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), _first)


def read_yaml_file(model: type[Model], content: bytes, path: str) -> tuple[Model | None, tuple[Finding, ...]]:
    """Read a file into its model.

    Args:
        model: What the file has to be.
        content: The file's bytes.
        path: The file, relative to the repository, for the findings.

    Returns:
        The model, or None when the file is wrong; and what is wrong, sorted by line.
    """
    read: Model | None = None
    remarks: list[Remark]
    try:
        loader = _Loader(content.decode("utf-8-sig"))
        node = loader.get_single_node()
        where = _locate(node)
        data = loader.construct_document(node) if node else None
        text = json.dumps(data, allow_nan=False)
    except UnicodeDecodeError as error:
        remarks = [(content.count(b"\n", 0, error.start) + 1, "not UTF-8 text")]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        remarks = [(mark.line + 1 if mark else None, f"not valid YAML: {error.problem or error.context}")]
    except yaml.YAMLError as error:
        remarks = [(None, f"not valid YAML: {error}")]
    except RecursionError:
        remarks = [(None, "nested too deeply")]
    except (TypeError, ValueError):
        remarks = [(None, "only text, numbers, true, false, null, lists and maps are taken here")]
    else:
        remarks = repeated_keys(where)
        try:
            read = model.model_validate_json(text, strict=True)
        except ValidationError as error:
            remarks.extend(model_faults(error, model, json.loads(text), where))
    if remarks:
        read = None
    findings = {Finding("", "error", message, path, line) for line, message in remarks}
    return read, tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.message)))


def _locate(node: yaml.Node | None) -> TextLines:
    found = TextLines()

    def visit(node: yaml.Node, location: Location) -> None:
        found.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                visit(item, (*location, index))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inside = (*location, str(key.value))
                if inside in found.lines:
                    found.repeated.append((inside, key.start_mark.line + 1))
                found.lines[inside] = key.start_mark.line + 1
                visit(value, inside)

    if node is not None:
        visit(node, ())
    return found
