"""What is looked at before a build is planned, against the real registries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.planning.preparation import Wanted, prepare
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine


def test_a_parent_that_comes_along_is_checked_like_what_was_named(
    image_repository: ImageRepository, settings: Settings, backends: Backends
) -> None:
    hello, shell = image_repository.image("apps/hello"), image_repository.image("tools/shell")
    wanted = Wanted("by a test", images=(hello,))
    prepared = prepare(wanted, settings, backends, pytest.fail)
    assert {step.image for step in prepared.plan.images} == {hello, shell}, "nobody has released the parent"

    (image_repository.folder("tools/shell") / "tests.json").write_text("{\n")
    with pytest.raises(BadInput, match=r"cannot be built:\s+\S*tests\.json:2"):
        prepare(wanted, settings, backends, pytest.fail)
