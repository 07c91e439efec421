"""A group of settings that belong together: `AML_IMAGES_<GROUP>__<NAME>`, `[tool.aml-images.<group>]`."""

from __future__ import annotations

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
