"""What groups of settings are made of: `AML_IMAGES_<GROUP>__<NAME>`, `[tool.aml-images.<group>]`."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

T = TypeVar("T")
P = TypeVar("P", str, Path)
_HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?)(:[0-9]+)?")


def split(text: str) -> tuple[str, ...]:
    """The parts of a text between semicolons, without white space around them."""
    return tuple(filter(None, map(str.strip, text.split(";"))))


def _split_text(value: object) -> object:
    return split(value) if isinstance(value, str) else value


def _split_pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(";") if pair.strip()]
    if not all(name.strip() and text.strip() for name, _, text in pairs):
        raise ValueError("write it as name=value;name=value")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _check_host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(
            "write host and port alone, without http://, a login or a path, e.g. 127.0.0.1:5000 or [::1]:5000"
        )
    return value


def check_home(path: P) -> P:
    """A path, which may begin with the home folder of a user.

    Raises:
        ValueError: There is no such user.
    """
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home folder {Path(path).parts[0]}; write the whole path") from None
    return path


Several = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_split_text)]
"""Values that are separated by ';' in a text."""
Pairs = Annotated[dict[T, str], NoDecode, BeforeValidator(_split_pairs)]
"""Names and their values: name=value;name=value in a text."""
Host = Annotated[str, AfterValidator(_check_host)]
"""Host of a registry, perhaps with a port."""
File = Annotated[P, AfterValidator(check_home)]
"""Path of a file or folder, perhaps with `~`."""
# A century, or a year where failures double the time: longer ones are beyond what dates can be.
Days = Annotated[float, Field(le=36_500)]
Hours = Annotated[float, Field(le=876_000)]
Minutes = Annotated[float, Field(le=527_040)]
Seconds = Annotated[float, Field(le=31_622_400)]


class Group(BaseModel):
    """Base of every group. A name that a group does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


def every_setting(model: type[BaseModel], *above: str) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every single setting of a model by its path, those of groups included."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            yield from every_setting(field.annotation, *above, name)
        else:
            yield (*above, name), field


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting is a secret: it may stand in the environment and in .env, and in no file that is committed."""
    return field.annotation in (SecretStr, SecretStr | None)


def check_name_pattern(value: str, example: str) -> str:
    """A pattern with {name}, and perhaps {family}.

    Raises:
        ValueError: It has something else between braces, or would give all images one name.
    """
    try:
        parts = [part for part in Formatter().parse(value) if part[1] is not None]
    except ValueError:
        raise ValueError("a brace is not closed") from None
    fields = {field for _, field, _, _ in parts}
    if any(form or conversion for _, _, form, conversion in parts):
        raise ValueError("write nothing but a name between braces")
    if not {"name"} <= fields <= {"name", "family"}:
        raise ValueError(f"write a repository with {{name}} and perhaps {{family}}, e.g. {example}")
    return value
