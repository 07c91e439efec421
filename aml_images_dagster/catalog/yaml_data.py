"""YAML as data with lines.

Plain words are text, numbers, `true`, `false` or `null`, as in the core schema of YAML 1.2, without octal and
hexadecimal numbers. PyYAML's own rules are those of YAML 1.1, by which `on` is true and `10:30` is 630.

Source: https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml
from typing_extensions import override

from aml_images_dagster.catalog.json_data import Lines, UnreadableError

if TYPE_CHECKING:
    from aml_images_dagster.catalog.json_data import Location


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


def yaml_data(text: str) -> tuple[Any, Lines]:
    """The data of a YAML document, and where they are.

    Raises:
        UnreadableError: It is no YAML.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines = _yaml_lines(node)
        return loader.construct_document(node) if node else None, lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise UnreadableError((line, f"not valid YAML: {error.problem or error.context}")) from None
    except yaml.YAMLError as error:
        raise UnreadableError((None, f"not valid YAML: {error}")) from None


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
