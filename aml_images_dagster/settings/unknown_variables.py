"""Variables that are spelt like a setting of ours, and are none."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from aml_images_dagster.settings.group import Group, every_setting
from aml_images_dagster.settings.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pydantic import BaseModel

_NO_SETTINGS = {f"{ENV_PREFIX}{name}" for name in ("CODE_HOST", "CODE_PORT", "REPOSITORY", "PINNED_CATALOG")}
"""Variables of deploy/, and of the factory itself, that are in the environment of the code server and of runs."""
_CHANNELS = f"{ENV_PREFIX}NOTIFY_"
"""Start of the variables with the addresses of channels."""


def unknown_variables(repo: Path) -> dict[str, str]:
    """Variables that look like a setting and are none, each with the setting that its name is like, or an empty text.

    Args:
        repo: Root of the repository, whose `.env` is read beside the environment.
    """
    known = {f"{ENV_PREFIX}{name}".upper() for name in _names(Settings)} | _NO_SETTINGS
    single = {"__".join(path).upper() for path, _ in every_setting(Settings)}
    given = {*os.environ, *dotenv_values(repo / ".env")}
    ours = (name for name in given if name.startswith(ENV_PREFIX) and not name.startswith(_CHANNELS))
    unknown = sorted(name for name in ours if name.upper() not in known)
    return {name: _meant(name.upper().removeprefix(ENV_PREFIX), single) for name in unknown}


def _meant(name: str, known: Collection[str]) -> str:
    """The variable of the setting that a name is like; of the names alone, because they all begin alike."""
    return next((f"{ENV_PREFIX}{close}" for close in difflib.get_close_matches(name, known, n=1)), "")


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"  # that of a group, too, which can be given whole
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            yield from _names(kind, f"{prefix}{name}__")
