"""A small repository with registries and an engine that nobody answers for, unless a test says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> ImageRepository:
    return ImageRepository.create(tmp_path / "repository")
