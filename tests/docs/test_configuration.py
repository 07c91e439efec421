"""docs/configuration.md and .env.example say what the settings are, and can be used as they stand."""

from __future__ import annotations

import json
import os
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.settings import Settings, load_settings, unknown_variables
from aml_images_dagster.settings.group import Group, every_setting, is_secret

if TYPE_CHECKING:
    from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_configuration.py"))
PAGE = (ROOT / "docs" / "configuration.md").read_text("utf-8")
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
SETTINGS = {".".join(path): field for path, field in every_setting(Settings)}
ROWS = re.findall(r"^\| (?:`([a-z.-]+)`|-) \| `([A-Z_]+)` \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(("AML_IMAGES_", "STAGING_CLIENT_")):
            monkeypatch.delenv(name)


def test_the_page_is_current() -> None:
    assert GENERATOR["page"](PAGE) == PAGE, "run docs/generate_configuration.py"


def test_the_example_is_current() -> None:
    assert GENERATOR["env_example"]() == EXAMPLE, "run docs/generate_configuration.py"


def given(settings: BaseModel) -> set[str]:
    """The names of all settings that got a value, those of groups included."""
    names = set()
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        names |= {f"{name}.{inner}" for inner in given(value)} if isinstance(value, Group) else {name}
    return names


def sample(name: str) -> str:
    """A value that the setting accepts, as a variable is written."""
    field = SETTINGS[name]
    samples = {"production_names": "{name}", "base_mirrors": "a=b", "repo": "."} | GENERATOR["EXAMPLES"]
    return samples.get(name) or GENERATOR["value"](name, field) or "3"


def test_every_setting_has_a_row() -> None:
    assert len(ROWS) == len(SETTINGS)


def test_every_variable_of_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for (_, variable, _, _), name in zip(ROWS, SETTINGS, strict=True):
        monkeypatch.setenv(variable, str(tmp_path) if name == "repo" else sample(name))
    assert given(load_settings()) == set(SETTINGS)


def test_doctor_takes_no_other_variable_for_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = PAGE.partition("\n## Other variables\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`(AML_IMAGES_[A-Z_]+)", cell)]
    assert "AML_IMAGES_NOTIFY_" in names
    for name in (*names, "AML_IMAGES_PINNED_CATALOG", "AML_IMAGES_ZZZ"):
        monkeypatch.setenv(f"{name}OPERATORS" if name.endswith("_") else name, "1")
    assert set(unknown_variables(tmp_path)) == {"AML_IMAGES_ZZZ"}


def test_every_key_of_the_page_is_read(tmp_path: Path) -> None:
    lines = ["[tool.aml-images]"]
    keys = [key for key, _, _, _ in ROWS if key]
    for key in keys:
        name = key.replace("-", "_")
        kind = SETTINGS[name].annotation
        text = sample(name)
        value = text if kind in (int, float, bool, int | None, float | None) else json.dumps(text)
        lines.append(f"{key} = {value}")
    (tmp_path / "pyproject.toml").write_text("\n".join(lines))
    assert given(load_settings(repo=tmp_path)) == {key.replace("-", "_") for key in keys} | {"repo"}


def test_the_defaults_of_the_example_are_the_defaults(tmp_path: Path) -> None:
    blocks = [block for block in EXAMPLE.split("\n\n") if "Default:" in block]
    (tmp_path / ".env").write_text("\n".join(block.splitlines()[-1].removeprefix("# ") for block in blocks))
    written, plain = (
        load_settings(repo=tmp_path),
        load_settings(repo=(tmp_path / "other").mkdir() or tmp_path / "other"),
    )
    assert len(given(written)) == len(blocks) + 1
    differing = {name for name in Settings.model_fields if getattr(written, name) != getattr(plain, name)} - {
        "repo",
        "home",
    }
    assert differing == set()


def test_the_whole_example_can_be_switched_on(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(re.sub(r"^# (?=[A-Z_]+=)", "", EXAMPLE, flags=re.MULTILINE))
    settings = load_settings(repo=tmp_path)
    assert settings.base_mirrors == {"docker.io": "mirror.example/hub"}
    assert settings.published_as == ("mcr.microsoft.com/azureml/{name}",)
    assert settings.windows_docker_host == "tcp://windows.example:2376"


def test_the_page_on_security_tells_of_every_secret() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    secrets = [GENERATOR["variable"](name, field) for name, field in SETTINGS.items() if is_secret(field)]
    assert len(secrets) == 5, "docs/configuration.md says how many there are"
    assert [secret for secret in secrets if f"`{secret}`" not in page] == []
