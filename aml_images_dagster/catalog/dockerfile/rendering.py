"""Rendering a Dockerfile: its private part is appended, its bases are pinned, and the rest of its text is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.dockerfile import (
    SCRATCH,
    Dockerfile,
    decode,
    no_from,
    read_dockerfile,
    stage_names,
)
from aml_images_dagster.catalog.dockerfile.instructions import (
    BYTE_ORDER_MARK,
    Place,
    read_directives,
    read_instructions,
)
from aml_images_dagster.catalog.layout import PRIVATE_SUFFIX, TEMPLATE_TAGS
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NoSuchStageError(BadInput):
    """A Dockerfile has no stage of the name of a target."""


def combine(public: bytes, private: bytes | None, path: str = "Dockerfile", *, target: str = "") -> str:
    """The text that is built: the Dockerfile, up to the end of the target, and below it Dockerfile.private.

    Line ends stay as they are, because they matter in heredocs; the byte order mark of the private part goes.

    Args:
        public: The Dockerfile.
        private: The Dockerfile.private, or None when there is none.
        path: The Dockerfile's name in messages; the private one is named by it with `.private` appended.
        target: The stage that makes the image; empty for the last one.

    Raises:
        NoSuchStageError: There is no such stage.
        BadInput: Either part cannot be read, the private one contains FROM, wants another escape character, or
            would become part of the last instruction of the public one.
    """
    text, _, _ = _joined(public, private, path, target)
    return text


def parse_combined(
    public: bytes,
    private: bytes | None,
    build_args: Mapping[str, str] | None = None,
    path: str = "Dockerfile",
    *,
    platform: str = "linux/amd64",
    template_tags: Sequence[str] = TEMPLATE_TAGS,
    target: str = "",
) -> Dockerfile:
    """`combine` and `parse_dockerfile` in one; messages name the file and the line that the user knows.

    Raises:
        BadInput: As `combine` and `parse_dockerfile`.
    """
    text, place, below = _joined(public, private, path, target)
    return read_dockerfile(text, build_args or {}, place, platform, template_tags, below)


def _joined(public: bytes, private: bytes | None, path: str, target: str) -> tuple[str, Place, tuple[str, ...]]:
    """The joined text, what names its lines, and the names of the stages below the target."""

    def public_place(line: int) -> str:
        return f"{path}:{line}"

    def private_place(line: int) -> str:
        return f"{path}{PRIVATE_SUFFIX}:{line}"

    upper = decode(public, path)
    upper, below = _up_to(target, upper, public_place) if target else (upper, ())
    if private is None:
        return upper, public_place, below
    lower = decode(private, path + PRIVATE_SUFFIX).removeprefix(BYTE_ORDER_MARK)
    escape = read_directives(upper, public_place).get("escape", "\\")
    instructions = read_instructions(upper, public_place, escape)
    if instructions and instructions[-1].continued:
        raise BadInput(
            f"the last instruction ends with the continuation character {escape}",
            where=public_place(instructions[-1].line),
            hint="Remove it; Dockerfile.private would become part of that instruction.",
        )
    if all(instruction.keyword == "ARG" for instruction in instructions):
        # Else the first instruction of the private part would be blamed for it.
        raise no_from(public_place)
    _check_private(lower, private_place, escape)
    if upper and not upper.endswith("\n"):
        upper += "\r\n" if "\r\n" in upper else "\n"
    above = upper.count("\n")

    def place(line: int) -> str:
        return public_place(line) if line <= above else private_place(line - above)

    return upper + lower, place, below


def _up_to(target: str, text: str, place: Place) -> tuple[str, tuple[str, ...]]:
    """A Dockerfile up to the end of a stage, and the names of the stages below: no builder builds those.

    So the stage is the last one of what is read, hashed, pinned and built, and needs no other rules than that.
    """
    escape = read_directives(text, place).get("escape", "\\")
    instructions = read_instructions(text, place, escape)
    names, _ = stage_names(instructions)
    if target.lower() not in names:
        raise NoSuchStageError(
            f"the Dockerfile has no stage {target!r}",
            hint=f"It has {', '.join(names)}." if names else "Name one: FROM … AS NAME.",
        )
    index = names[target.lower()]
    below = [each for each in instructions if each.keyword == "FROM" and not each.on_build][index + 1 :]
    if not below:
        return text, ()
    first, _ = below[0].span(0, 1)
    return text[: text.rfind("\n", 0, first) + 1], tuple(name for name, stage in names.items() if stage > index)


def _check_private(text: str, place: Place, escape: str) -> None:
    own_escape = read_directives(text, place).get("escape", escape)
    if own_escape != escape:
        raise BadInput(
            f"the escape character is {own_escape} here and {escape} in the Dockerfile",
            where=place(1),
            hint="Both parts are built as one file: use the same in both.",
        )
    for instruction in read_instructions(text, place, escape):
        if instruction.keyword == "FROM":
            raise BadInput(
                "Dockerfile.private may not contain FROM",
                where=place(instruction.line),
                hint="It is appended to the last stage of the Dockerfile; put stages into the Dockerfile.",
            )


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
    while any(instruction.continued for instruction in read_instructions(text, str, escape)[-1:]):
        lines = text.split("\n")
        while not lines[-1].strip() or lines[-1].lstrip().startswith("#"):
            lines.pop()
        text = "\n".join(lines).rstrip()[: -len(escape)].rstrip()
    pairs = " ".join(f"{quoted(name, escape)}={quoted(value, escape)}" for name, value in labels.items())
    return f"{text}\nLABEL {pairs}\n"


def quoted(text: str, escape: str) -> str:
    """A text as one word of an instruction, nothing in it expanded.

    Source: https://docs.docker.com/reference/dockerfile/#environment-replacement; in code the shell lexer of
    moby/buildkit (frontend/dockerfile/shell): the escape character protects these three inside of double quotes.
    """
    plain = " ".join(text.splitlines())
    return '"' + "".join(escape + letter if letter in ('"', "$", escape) else letter for letter in plain) + '"'
