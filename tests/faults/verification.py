"""What is asked after every fault, and written into the matrix."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults.matrix import PROPERTY, Row
from tests.faults.scene import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.evidence import Left
    from tests.faults.faults import Fault
    from tests.faults.scene import Build, Scene


@dataclass(frozen=True)
class Clean:
    """A build of which nothing is left any more.

    Attributes:
        there: What was there when the fault struck.
        seconds: How long that took from the end of the fault.
    """

    there: Left | None
    seconds: float


def wait_until_clean(build: Build, scene: Scene) -> Clean:
    """Wait until nothing is left of a build.

    Raises:
        AssertionError: Something is left a minute after the fault was over.
    """
    struck_at = build.struck_at or scene.first_failure(build)
    assert struck_at is not None, f"the build has not failed: {scene.messages(build)}"
    recovered_at = build.recovered_at or struck_at
    try:
        while build.observer.clean_since() is None and time.time() < recovered_at + PATIENCE_SECONDS:
            time.sleep(0.2)
    finally:
        build.observer.stop()
    since = build.observer.clean_since()
    assert since is not None, f"{build.number} left {build.observer.look()}\n{build.output}"
    return Clean(build.observer.at(struck_at).left, max(0.0, since - recovered_at))


def nothing_is_left(fault: Fault, scene: Scene) -> Row:
    """Let a fault strike, and see that it leaves nothing, harms no other build, and that the next build succeeds."""
    build = fault.inflict(scene, fault.started)
    clean = wait_until_clean(build, scene)
    scene.world.recover()
    scene.fix()
    scene.succeed(fault.started)
    if build.process is not None:
        scene.wait_for_end(build, 60)
        said = " ".join(build.output.split())
        assert re.search(fault.says, said), f"{fault.says!r} is not in {build.output}"
    again = scene.eyes.look(build.number)
    assert again.clean, f"{build.number} has come back: {again}"
    assert scene.damaged() == []
    # Only now, because the layers say what they have done when they are done.
    return Row(fault.name, build.started, str(clean.there), scene.cleaners(build), clean.seconds)


class NothingIsLeft:
    """The test of each fault that a class is about."""

    def test_nothing_is_left(self, fault: Fault, scene: Scene, record_property: Callable[[str, object], None]) -> None:
        record_property(PROPERTY, list(nothing_is_left(fault, scene)))
