"""The repository that whole builds are run on."""

import pytest

from tests.image_repository import ImageRepository


@pytest.fixture
def repository(image_repository: ImageRepository) -> ImageRepository:
    return image_repository
