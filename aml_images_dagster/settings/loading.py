"""Gathering the settings.

A value comes from the first place that has it: a command-line option, the environment (`AML_IMAGES_…`),
the repository's `.env`, the table `[tool.aml-images]` of the repository's pyproject.toml, the default.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from aml_images_dagster.errors import BadInput
from aml_images_dagster.settings.group import Group, is_secret
from aml_images_dagster.settings.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_TABLE = "tool.aml-images"


def find_repository(start: Path) -> Path:
    """The innermost folder at or above `start` that is a git repository, else `start` itself."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), start)


def load_settings(**options: Any) -> Settings:
    """Gather the settings.

    Args:
        options: What the command line gave, by field name; None means not given.

    Raises:
        BadInput: A value is wrong, or the repository's table has an unknown key.
    """
    given = {name: value for name, value in options.items() if value is not None}
    repo = Path(given.pop("repo", None) or os.environ.get(f"{ENV_PREFIX}REPO") or find_repository(Path.cwd()))
    if not repo.is_dir():
        raise BadInput("there is no such folder", where=str(repo), mend="Name the root of the repository with --repo.")
    table = _repository_table(repo / "pyproject.toml")

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, dotenv_settings, InitSettingsSource(settings_cls, table)

    try:
        return Sourced(_env_file=repo / ".env", repo=repo, **given)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise BadInput(
            f"a setting is wrong: {faults}",
            where=str(repo),
            mend=f"Settings come from options, {ENV_PREFIX}… variables, .env and [{_TABLE}] in pyproject.toml.",
        ) from None
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", where=str(repo / ".env"), mend="Mend the file.") from None


def _repository_table(pyproject: Path) -> dict[str, Any]:
    """`[tool.aml-images]` and its tables, keys written with dashes as is usual in TOML."""
    if not pyproject.is_file():
        return {}
    try:
        tool = tomllib.loads(pyproject.read_text("utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"not valid TOML: {error}", where=str(pyproject), mend="Mend the file.") from None
    table = tool.get("aml-images", {}) if isinstance(tool, dict) else tool
    return _by_field_name(table, Settings, _TABLE, pyproject)


def _by_field_name(table: object, model: type[BaseModel], name: str, pyproject: Path) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise BadInput(f"[{name}] is not a table", where=str(pyproject), mend=f"Write keys below a line [{name}].")
    known = {field.replace("_", "-"): field for field in model.model_fields}
    values = {}
    for key, value in table.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(sorted(known))}."
            raise BadInput(f"unknown key {key!r} in [{name}]", where=str(pyproject), mend=hint)
        field = model.model_fields[known[key]]
        if is_secret(field):
            raise BadInput(
                f"{key} in [{name}] is a secret, and this file is committed",
                where=str(pyproject),
                mend=f"Set {_variable(name, known[key], field)} in the environment or in .env, and change the secret.",
            )
        kind = field.annotation
        values[known[key]] = (
            _by_field_name(value, kind, f"{name}.{key}", pyproject)
            if isinstance(kind, type) and issubclass(kind, Group)
            else value
        )
    return values


def _variable(table: str, field_name: str, field: FieldInfo) -> str:
    if field.validation_alias is not None:
        return field_name.upper()
    groups = table.removeprefix(_TABLE).strip(".").replace("-", "_").split(".")
    return ENV_PREFIX + "__".join(filter(None, [*groups, field_name])).upper()
