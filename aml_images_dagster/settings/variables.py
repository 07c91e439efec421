"""Names of the environment variables of the settings, and what is named like one and is none."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from aml_images_dagster.settings.group import Group
from aml_images_dagster.settings.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel


def unknown_variables(repo: Path) -> dict[str, str]:
    """Variables that look like a setting and are none, each with the setting that its name is like, or an empty text.

    Args:
        repo: Root of the repository, whose `.env` is read beside the environment.
    """
    known = {f"{ENV_PREFIX}{name}".upper() for name in _names(Settings)}
    given = {*os.environ, *dotenv_values(repo / ".env")}
    unknown = sorted(name for name in given if name.startswith(ENV_PREFIX) and name.upper() not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, n=1)), "") for name in unknown}


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"  # that of a group, too, which can be given whole
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            yield from _names(kind, f"{prefix}{name}__")
