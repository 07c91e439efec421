"""`Dockerfile` and `Dockerfile.private`: the private part is appended when the image is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile, decode, read_dockerfile, stage_names
from aml_images_dagster.catalog.dockerfile.instructions import (
    BYTE_ORDER_MARK,
    Place,
    read_directives,
    read_instructions,
)
from aml_images_dagster.catalog.layout import PRIVATE_SUFFIX, TEMPLATE_TAGS
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
