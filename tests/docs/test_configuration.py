"""docs/configuration.md and .env.example say what the settings are, and can be used as they stand."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path

import pytest

from aml_images_dagster.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_configuration.py"))
PAGE = (ROOT / "docs" / "configuration.md").read_text("utf-8")
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
ROWS = re.findall(r"^\| (?:`([a-z-]+)`|-) \| `([A-Z_]+)` \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(("AML_IMAGES_", "STAGING_CLIENT_")):
            monkeypatch.delenv(name)


def test_the_page_is_current() -> None:
    assert GENERATOR["page"](PAGE) == PAGE, "run docs/generate_configuration.py"


def test_the_example_is_current() -> None:
    assert GENERATOR["env_example"]() == EXAMPLE, "run docs/generate_configuration.py"


def test_every_setting_has_a_row() -> None:
    assert len(ROWS) == len(Settings.model_fields)


def test_every_variable_of_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"PROFILE": "local", "REPO": str(tmp_path), "PRODUCTION_NAMES": "{name}", "BASE_MIRRORS": "a=b"}
    for _, variable, _, _ in ROWS:
        monkeypatch.setenv(variable, values.get(variable.removeprefix("AML_IMAGES_"), "3"))
    assert load_settings().model_fields_set == set(Settings.model_fields)


def test_every_key_of_the_page_is_read(tmp_path: Path) -> None:
    values = {"profile": '"local"', "production-names": '"{name}"', "base-mirrors": '{"a" = "b"}'}
    numbers = dict.fromkeys(
        (n.replace("_", "-") for n, field in Settings.model_fields.items() if field.annotation in (int, float)), "3"
    )
    keys = [key for key, _, _, _ in ROWS if key]
    lines = [f"{key} = " + (values | numbers).get(key, '"x"') for key in keys]
    (tmp_path / "pyproject.toml").write_text("\n".join(["[tool.aml-images]", *lines]))
    fields = load_settings(repo=tmp_path).model_fields_set
    assert fields == {key.replace("-", "_") for key in keys} | {"repo"}


def test_the_defaults_of_the_example_are_the_defaults(tmp_path: Path) -> None:
    blocks = [block for block in EXAMPLE.split("\n\n") if "Default:" in block]
    (tmp_path / ".env").write_text("\n".join(block.splitlines()[-1].removeprefix("# ") for block in blocks))
    written, plain = (
        load_settings(repo=tmp_path),
        load_settings(repo=(tmp_path / "other").mkdir() or tmp_path / "other"),
    )
    assert len(written.model_fields_set) == len(blocks) + 1
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
