"""What groups of settings are made of: `AML_IMAGES_<GROUP>__<NAME>`, `[tool.aml-images.<group>]`."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo


class Group(BaseModel):
    """Base of every group. A name that a group does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


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
        fields = {field for _, field, _, _ in Formatter().parse(value) if field is not None}
    except ValueError:
        raise ValueError("a brace is not closed") from None
    if not {"name"} <= fields <= {"name", "family"}:
        raise ValueError(f"write a repository with {{name}} and perhaps {{family}}, e.g. {example}")
    return value
