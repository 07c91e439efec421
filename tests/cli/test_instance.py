"""The folder of the Dagster instance."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import yaml

from aml_images_dagster.cli.instance import open_instance
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image_repository import ImageRepository


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, repository: ImageRepository) -> None:
    for name in [name for name in os.environ if name.startswith(("AML_IMAGES_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", "")  # opening an instance sets it
    monkeypatch.setenv("AML_IMAGES_REPO", str(repository.root))


@pytest.mark.parametrize("home", ["", "state"])
def test_the_instance_is_where_the_settings_say(
    repository: ImageRepository, tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if home:
        monkeypatch.setenv("AML_IMAGES_HOME", str(tmp_path / home))
    expected = (tmp_path / home if home else repository.root / ".aml-images") / "dagster"
    with open_instance(load_settings()) as instance:
        assert instance.root_directory == str(expected)
    assert yaml.safe_load((expected / "dagster.yaml").read_text())["run_monitoring"]["enabled"] is True
    assert [file for file in expected.iterdir() if file.name.startswith(".dagster.yaml")] == []


def test_state_is_no_change_of_the_working_tree(
    repository: ImageRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the instance is: a build of a changed tree cannot be released."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "instance"))
    open_instance(load_settings()).dispose()
    (repository.root / ".aml-images" / "artifacts").mkdir()
    (repository.root / ".aml-images" / "artifacts" / "file").touch()
    assert repository.git("status", "--porcelain") == ""
