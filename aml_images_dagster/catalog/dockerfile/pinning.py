"""Changing what a Dockerfile is built from, without touching anything else in its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.instructions import read_directives, read_instructions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile


def pin(dockerfile: Dockerfile, pins: Mapping[str, str]) -> str:
    """The text with the reference of every use replaced by `pins[use.reference]`.

    Uses without an entry stay as they are written, and so does every other character of the text. The name
    of a variable that held the reference is replaced, not the variable's default.
    """
    parts: list[str] = []
    done = 0
    for use in dockerfile.uses:
        pinned = pins.get(use.reference)
        if pinned is not None:
            parts += [dockerfile.text[done : use.start], pinned]
            done = use.end
    return "".join(parts) + dockerfile.text[done:]


def with_label(dockerfile: str, name: str, value: str) -> str:
    """The text of a Dockerfile with a LABEL as the first instruction of every stage.

    Raises:
        BadInput: It is no Dockerfile.
    """
    directives = read_directives(dockerfile, str)
    instructions = read_instructions(dockerfile, str, directives.get("escape", "\\"))
    lines = dockerfile.split("\n")
    label = f'LABEL {name}="{value}"'
    following = [instruction.line - 1 for instruction in instructions[1:]] + [len(lines)]
    for instruction, line in reversed([*zip(instructions, following, strict=True)]):
        if instruction.keyword == "FROM" and not instruction.on_build:
            lines.insert(line, label)
    return "\n".join(lines)
