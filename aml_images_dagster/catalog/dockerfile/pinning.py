"""Changing what a Dockerfile is built from, without touching anything else in its text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH, Dockerfile
from aml_images_dagster.catalog.dockerfile.instructions import BYTE_ORDER_MARK, read_directives, read_instructions
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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


def with_base(dockerfile: Dockerfile, base: str) -> Dockerfile:
    """A Dockerfile as if another image stood in every FROM that names what its last stage is built on.

    The text stays: `pin` puts the other image in.

    Raises:
        BadInput: The base is no image reference, or the last stage is FROM scratch.
    """
    Reference.parse(base)
    replaced = dockerfile.base
    if replaced == SCRATCH:
        raise BadInput("the last stage is FROM scratch", hint="Name a base only where the Dockerfile has one.")
    return replace(
        dockerfile,
        stages=tuple(
            replace(stage, base=base) if stage.parent is None and stage.base == replaced else stage
            for stage in dockerfile.stages
        ),
        uses=tuple(
            replace(use, reference=base) if use.kind == "from" and use.reference == replaced else use
            for use in dockerfile.uses
        ),
    )


def with_arguments(dockerfile: str, values: Mapping[str, str]) -> str:
    """The text of a Dockerfile in which every ARG with one of these names has its value: declared again, below it.

    Raises:
        BadInput: It is no Dockerfile.
    """
    escape = read_directives(dockerfile, str).get("escape", "\\")
    instructions = read_instructions(dockerfile, str, escape)
    lines = dockerfile.split("\n")
    following = [instruction.line - 1 for instruction in instructions[1:]] + [len(lines)]
    for instruction, line in reversed([*zip(instructions, following, strict=True)]):
        if instruction.keyword == "ARG" and not instruction.on_build:
            declared = [word.partition("=")[0] for word in instruction.body[instruction.arguments :].split()]
            lines[line:line] = [f"ARG {name}={quoted(values[name], escape)}" for name in declared if name in values]
    return "\n".join(lines)


def in_every_stage(dockerfile: str, added: Sequence[str]) -> str:
    """The text of a Dockerfile with further instructions, one a line, at the beginning of every stage.

    Raises:
        BadInput: It is no Dockerfile.
    """
    directives = read_directives(dockerfile, str)
    instructions = read_instructions(dockerfile, str, directives.get("escape", "\\"))
    lines = dockerfile.split("\n")
    following = [instruction.line - 1 for instruction in instructions[1:]] + [len(lines)]
    for instruction, line in reversed([*zip(instructions, following, strict=True)]):
        if instruction.keyword == "FROM" and not instruction.on_build:
            lines[line:line] = added
    return "\n".join(lines)


def without_directives(dockerfile: str) -> str:
    """A Dockerfile that asks for no frontend: of the comments in front of the first instruction only `escape` stays.

    BuildKit lets the image that `# syntax=` names read the file, fetched by the builder from wherever it is. It looks
    for that line in more forms than the reference says (behind `#!`, for instance), so no comment is left in front. The
    lines keep their numbers.
    """
    escape = read_directives(dockerfile, str).get("escape", "")
    lines = dockerfile.removeprefix(BYTE_ORDER_MARK).split("\n")
    for index, line in enumerate(lines):
        if not line.lstrip().startswith("#"):
            if line.strip():
                break
            continue
        lines[index] = f"# escape={escape}" if escape and index == 0 else "#"
    return "\n".join(lines)


def with_labels(dockerfile: str, labels: Mapping[str, str]) -> str:
    """A Dockerfile whose last stage has these labels; the characters of line ends in values become spaces.

    They are one instruction: the classic builder creates a container and a layer for each label that it is given beside
    the Dockerfile.
    """
    if not labels:
        return dockerfile
    escape = read_directives(dockerfile, str).get("escape", "\\")
    text = dockerfile.rstrip()
    while text.endswith(escape):  # a line that goes on where the file ends
        text = text[:-1].rstrip()
    pairs = " ".join(f"{quoted(name, escape)}={quoted(value, escape)}" for name, value in labels.items())
    return f"{text}\nLABEL {pairs}\n"


def quoted(text: str, escape: str) -> str:
    """A text as one word of an instruction, nothing in it expanded.

    Source: https://docs.docker.com/reference/dockerfile/#environment-replacement; in code the shell lexer of
    moby/buildkit (frontend/dockerfile/shell): the escape character protects these three inside of double quotes.
    """
    plain = " ".join(text.splitlines())
    return '"' + "".join(escape + letter if letter in ('"', "$", escape) else letter for letter in plain) + '"'
