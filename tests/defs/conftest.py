"""The definitions of small repositories, with registries and an engine that nobody answers for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.settings import load_settings
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import dagster as dg

    Load = Callable[[ImageRepository], dg.Definitions]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageRepository:
    for name in os.environ:
        if name.startswith(("AML_IMAGES_", "DAGSTER_")):
            monkeypatch.delenv(name)
    return ImageRepository.create(tmp_path / "repository")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """What Dagster loads for a repository."""

    def load(repository: ImageRepository) -> dg.Definitions:
        monkeypatch.setenv("AML_IMAGES_REPO", str(repository.root))
        from aml_images_dagster.definitions import definitions

        return definitions(load_settings(docker_host="unix:///nowhere.sock"))

    return load
