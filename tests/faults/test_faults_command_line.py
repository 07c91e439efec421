"""The command line alone, without a Dagster daemon: whatever happens to a build, nothing of it is left."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.emulators.faulty_registry import Fault as Answer
from tests.faults.faults import chosen, in_mid_build, pushed_to
from tests.faults.verification import NothingIsLeft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.scene import Scene

pytestmark = [pytest.mark.engine, pytest.mark.faults]


@pytest.fixture
def scene(command_line: Scene) -> Iterator[Scene]:
    yield command_line
    command_line.world.clear()
    command_line.fix()


@chosen("engine", daemon=False)
class TestEngine(NothingIsLeft):
    pass


@chosen("build", daemon=False)
class TestBuild(NothingIsLeft):
    pass


@chosen("registry", daemon=False)
class TestRegistry(NothingIsLeft):
    pass


def test_a_build_that_is_killed_between_plan_and_run_leaves_a_plan_that_is_removed(scene: Scene) -> None:
    scene.fix()
    known, tags = {run.run_id for run in scene.instance.get_runs()}, scene.eyes.tags()
    process, plan = scene.plan_and_stop()
    process.kill()
    process.communicate()
    assert {run.run_id for run in scene.instance.get_runs()} == known
    assert scene.eyes.tags() == tags
    long_ago = plan.with_name(f"20261001{plan.name[8:]}")
    plan.rename(long_ago)
    scene.succeed("command line")
    assert not long_ago.exists()
    assert scene.damaged() == []


@pytest.mark.parametrize(("status", "times"), [(429, 20), (500, 8)])
def test_a_push_is_repeated_until_the_registry_takes_it(scene: Scene, status: int, times: int) -> None:
    """BuildKit alone gives up after fewer requests, within ten seconds."""
    scene.content()
    scene.world.front.faults = [Answer("status", "PUT", pushed_to(scene), status=status, times=times)]
    build = scene.start("command line")
    scene.wait_for_end(build)
    build.observer.stop()
    assert scene.eyes.status(build.number) == "succeeded", build.output
    assert "pushing again in 1 s" in scene.repository.run("logs", build.number).stdout
    scene.keep(build)
    assert scene.damaged() == []


def test_a_build_goes_on_when_the_engine_comes_back(scene: Scene) -> None:
    build = in_mid_build(scene, "command line", seconds=2)
    scene.strike(build, lambda: scene.world.engine.end(signal.SIGTERM))
    scene.world.engine.start()
    scene.wait_for_end(build)
    build.observer.stop()
    assert scene.eyes.status(build.number) == "succeeded", build.output
    scene.keep(build)
    assert scene.damaged() == []
