"""Whatever happens to a build: within a minute nothing of it is left, no other has suffered, the next one succeeds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.faults import FAULTS, Fault
from tests.faults.matrix import PROPERTY, Row
from tests.faults.scene import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.scene import Scene

pytestmark = [pytest.mark.engine, pytest.mark.faults]


@pytest.fixture
def scene(fault: Fault, request: pytest.FixtureRequest) -> Iterator[Scene]:
    scene: Scene = request.getfixturevalue("with_daemon" if fault.daemon else "command_line")
    yield scene
    scene.world.recover()
    scene.mend()


# Those without the daemon first: it takes a share of the machine.
@pytest.mark.parametrize("fault", sorted(FAULTS, key=lambda fault: fault.daemon), ids=str)
def test_nothing_is_left(fault: Fault, scene: Scene, record_property: Callable[[str, object], None]) -> None:
    build = fault.inflict(scene, fault.started)
    struck_at = build.struck_at or scene.first_failure(build)
    assert struck_at is not None, f"the build has not failed: {scene.messages(build)}"
    recovered_at = build.recovered_at or struck_at
    there = build.observer.at(struck_at).left
    try:
        while build.observer.clean_since() is None and time.time() < recovered_at + PATIENCE_SECONDS:
            time.sleep(0.2)
    finally:
        build.observer.stop()
    clean_since = build.observer.clean_since()
    assert clean_since is not None, f"{build.number} left {build.observer.look()}\n{build.output}"
    cleaners = scene.cleaners(build, clean_since)
    row = Row(fault.name, fault.started, str(there), cleaners, max(0.0, clean_since - recovered_at))
    record_property(PROPERTY, row)

    scene.world.recover()
    scene.mend()
    scene.succeed(fault.started)
    again = scene.eyes.look(build.number)
    assert again.clean, f"{build.number} has come back: {again}"
    assert scene.damaged() == []
