"""Builds without Dagster: the settings, the parts and sessions of a small repository."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.build.naming import build_number, release_tag_for
from aml_images_dagster.build.session import BuildSession
from aml_images_dagster.build.source import open_source
from aml_images_dagster.profiles import parts_for
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.build.parts import Parts
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

    NewSession = Callable[..., BuildSession]


@pytest.fixture
def settings(image_repository: ImageRepository, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in os.environ:
        if name.startswith("AML_IMAGES_"):
            monkeypatch.delenv(name)
    return load_settings(repo=image_repository.root)


@pytest.fixture
def parts(settings: Settings) -> Parts:
    return parts_for(settings)


@pytest.fixture
def new_session(image_repository: ImageRepository, settings: Settings, parts: Parts) -> NewSession:
    """Begins a build of images that `tools/…` and `apps/…` name, from the files as they are now."""

    def new(*images: str, commit: str = "", **fields: Any) -> BuildSession:
        run_id, now = str(uuid.uuid4()), datetime.now(UTC)
        return BuildSession(
            number=build_number(run_id, now),
            run_id=run_id,
            created=now,
            release_tag=release_tag_for(now, None, None),
            images=frozenset(map(image_repository.image, images)),
            source=open_source(settings, commit),
            settings=settings,
            parts=parts,
            **fields,
        )

    return new
