"""With UI and daemon: whatever happens to a build, however it was started, nothing of it is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.faults import Fault, chosen
from tests.faults.matrix import PROPERTY
from tests.faults.verification import nothing_is_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.scene import Scene

pytestmark = [pytest.mark.engine, pytest.mark.faults]


@pytest.fixture
def scene(with_daemon: Scene) -> Iterator[Scene]:
    yield with_daemon
    with_daemon.world.clear()
    with_daemon.fix()


@pytest.mark.parametrize("fault", chosen(daemon=True), ids=str)
def test_nothing_is_left(fault: Fault, scene: Scene, record_property: Callable[[str, object], None]) -> None:
    record_property(PROPERTY, list(nothing_is_left(fault, scene)))
