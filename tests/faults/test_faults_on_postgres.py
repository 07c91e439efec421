"""The most important faults with an instance in Postgres, which several machines may share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.faults import FAULTS, Fault
from tests.faults.matrix import PROPERTY
from tests.faults.verification import nothing_is_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.scene import Scene

pytestmark = [pytest.mark.engine, pytest.mark.faults, pytest.mark.services]

NAMES = (
    "kill -9 of the run worker in test",
    "kill -9 of the run worker in build",
    "terminate in test",
    "kill -9 of the daemon in test, which ends `dagster dev`",
)
CHOSEN = [fault for fault in FAULTS if fault.name in NAMES and fault.started == "UI"]


@pytest.fixture
def scene(on_postgres: Scene) -> Iterator[Scene]:
    yield on_postgres
    on_postgres.world.clear()
    on_postgres.fix()


@pytest.mark.parametrize("fault", CHOSEN, ids=str)
def test_nothing_is_left(fault: Fault, scene: Scene, record_property: Callable[[str, object], None]) -> None:
    seen = nothing_is_left(fault, scene)
    record_property(PROPERTY, list(seen._replace(fault=f"{seen.fault}, instance in Postgres")))


def test_every_fault_that_is_named_is_there() -> None:
    assert sorted(fault.name for fault in CHOSEN) == sorted(NAMES)
