"""Gathering the settings.

A value comes from the first place that has it: a command-line option, the environment (`AML_IMAGES_…`),
the repository's `.env`, the table `[tool.aml-images]` of the repository's pyproject.toml, the default.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)
from typing_extensions import override

from aml_images_dagster.errors import BadInput
from aml_images_dagster.messages import wrong_value
from aml_images_dagster.settings.group import Group, every_setting, is_secret
from aml_images_dagster.settings.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

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
        raise BadInput("there is no such folder", where=str(repo), hint="Name the root of the repository with --repo.")
    in_table: list[BadInput] = []
    table = _repository_table(repo / "pyproject.toml", in_table)

    class Sourced(Settings):
        @classmethod
        @override
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, dotenv_settings, InitSettingsSource(settings_cls, table)

    faults: list[str] = []
    try:
        settings = Sourced(_env_file=repo / ".env", repo=repo, **given)
    except ValidationError as error:
        faults = [_fault(details, given, repo, table) for details in error.errors(include_url=False)]
    except SettingsError:
        groups = {path[0] for path, _ in every_setting(Settings) if len(path) > 1}
        wrong = (group for group in sorted(groups) if _variable_of((group,), repo))
        raise BadInput(
            "this is a group of settings, and no value",
            where=", ".join(_place((group,), given, repo, table) for group in wrong),
            hint=f"Set each setting separately: {ENV_PREFIX}<GROUP>__<NAME>.",
        ) from None
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", where=str(repo / ".env"), hint="Correct the file.") from None
    if in_table and len(in_table) + len(faults) == 1:
        raise in_table[0]
    if faults := [*(f"{fault.where}: {fault.what}. {fault.hint}" for fault in in_table), *faults]:
        raise BadInput(
            faults[0] if len(faults) == 1 else "\n  ".join(["several settings are wrong:", *faults]),
            hint=f"Settings come from options, {ENV_PREFIX}… variables, .env and [{_TABLE}] in pyproject.toml.",
        )
    return settings


def _fault(details: ErrorDetails, given: Mapping[str, Any], repo: Path, table: Mapping[str, Any]) -> str:
    """What is wrong with a setting, after the name by which the user has set it."""
    location = tuple(str(step).lower() for step in details["loc"])
    fields = dict(every_setting(Settings))
    if details["type"] == "extra_forbidden":
        close = difflib.get_close_matches(location[-1], [path[-1] for path in fields if path[0] == location[0]], n=1)
        what = "there is no such setting" + (f"; did you mean {_variable((location[0], close[0]))}?" if close else "")
    else:
        is_hidden = location in fields and is_secret(fields[location])
        what = wrong_value(details, show=not is_hidden)
    place = _place(location, given, repo, table)
    return f"{place}: {what}" if place else what


def _place(location: tuple[str, ...], given: Mapping[str, Any], repo: Path, table: Mapping[str, Any]) -> str:
    """Name and source of the value that counts; the name alone when nobody has set it by itself."""
    if location and location[0] in given:
        return f"--{_key(location[0])}"
    # A group may be set as a whole, and a fault may be inside of a value.
    for length in range(len(location), 0, -1):
        found = _variable_of(location[:length], repo)
        if found:
            return found
    for depth, step in enumerate(location):
        if not isinstance(table, Mapping) or step not in table:
            break
        table = table[step]
        if not isinstance(table, Mapping) or depth == len(location) - 1:
            return f"{_key(step)} in [{_table_name(location[:depth])}] of {repo / 'pyproject.toml'}"
    return ".".join(location)


def _variable_of(location: tuple[str, ...], repo: Path) -> str:
    """The variable that sets a setting and where it is; empty when there is none."""
    name = _variable(location)
    if EnvSettingsSource(Settings).env_vars.get(name.lower()):
        return f"{name} (environment)"
    dotenv = repo / ".env"
    return f"{name} in {dotenv}" if DotEnvSettingsSource(Settings, dotenv).env_vars.get(name.lower()) else ""


def _repository_table(pyproject: Path, faults: list[BadInput]) -> dict[str, Any]:
    """`[tool.aml-images]` and its tables, keys written with dashes as is usual in TOML.

    Args:
        pyproject: The file.
        faults: Receives what is wrong with keys, which are left out.
    """
    if not pyproject.is_file():
        return {}
    try:
        tool = tomllib.loads(pyproject.read_text("utf-8")).get("tool", {})
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of a number with 5,000 digits
        raise BadInput(f"not valid TOML: {error}", where=str(pyproject), hint="Correct the file.") from None
    table = tool.get("aml-images", {}) if isinstance(tool, dict) else tool
    return _by_field_name(table, Settings, (), pyproject, faults)


def _by_field_name(
    table: object, model: type[BaseModel], above: tuple[str, ...], pyproject: Path, faults: list[BadInput]
) -> dict[str, Any]:
    name, where = _table_name(above), str(pyproject)
    if not isinstance(table, dict):
        faults.append(BadInput(f"[{name}] is not a table", where=where, hint=f"Write keys below a line [{name}]."))
        return {}
    known = {_key(field): field for field in model.model_fields}
    values = {}
    for key, value in table.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(sorted(known))}."
            faults.append(BadInput(f"unknown key {key!r} in [{name}]", where=where, hint=hint))
            continue
        field = model.model_fields[known[key]]
        if is_secret(field):
            what = f"{key} in [{name}] is a secret, and this file is committed"
            hint = f"Set {_variable((*above, known[key]))} in the environment or in .env, and change the secret."
            faults.append(BadInput(what, where=where, hint=hint))
            continue
        kind = field.annotation
        values[known[key]] = (
            _by_field_name(value, kind, (*above, known[key]), pyproject, faults)
            if isinstance(kind, type) and issubclass(kind, Group)
            else value
        )
    return values


def _table_name(location: tuple[str, ...]) -> str:
    return ".".join((_TABLE, *map(_key, location)))


def _key(field_name: str) -> str:
    return field_name.replace("_", "-")


def _variable(location: tuple[str, ...]) -> str:
    field = Settings.model_fields.get(location[0])
    prefix = "" if field is not None and field.validation_alias is not None else ENV_PREFIX
    return prefix + "__".join(location).upper()
