"""With UI and daemon: whatever happens to a build, however it was started, nothing of it is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.faults import chosen
from tests.faults.verification import NothingIsLeft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.scene import Scene

pytestmark = [pytest.mark.engine, pytest.mark.faults]


@pytest.fixture
def scene(with_daemon: Scene) -> Iterator[Scene]:
    yield with_daemon
    with_daemon.world.clear()
    with_daemon.fix()


@chosen("build", daemon=True)
class TestBuild(NothingIsLeft):
    pass


@chosen("engine", daemon=True)
class TestEngine(NothingIsLeft):
    pass


@chosen("registry", daemon=True)
class TestRegistry(NothingIsLeft):
    pass
