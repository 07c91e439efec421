"""A bare git remote, and settings that look at it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.settings import load_settings
from tests.image_repository import ImageRepository
from tests.pull_requests.remote_repository import RemoteRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aml_images_dagster.settings import Settings


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteRepository:
    for name in os.environ:
        if name.startswith(("AML_IMAGES_", "DAGSTER_")):
            monkeypatch.delenv(name)
    return RemoteRepository.create(tmp_path, ImageRepository.create(tmp_path / "repository"))


@pytest.fixture
def pull_settings(remote: RemoteRepository) -> Callable[..., Settings]:
    """Settings with some of those of pull requests."""

    def settings(**values: object) -> Settings:
        return load_settings(repo=remote.factory.root, pull_requests={"allow": "everyone", **values})

    return settings


@pytest.fixture
def github() -> Iterator[object]:
    from tests.emulators.github import GitHub

    with GitHub() as server:
        yield server


@pytest.fixture
def azure_devops() -> Iterator[object]:
    from tests.emulators.azure_devops import AzureDevOps

    with AzureDevOps() as server:
        yield server
