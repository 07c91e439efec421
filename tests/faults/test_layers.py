"""One clean-up layer after the other is broken, and the next one covers the hole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.browser.dagster_ui import DagsterUi
from tests.faults import breakable
from tests.faults.matrix import PROPERTY, Row
from tests.faults.scene import PATIENCE_SECONDS, Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.scene import World

pytestmark = [pytest.mark.engine, pytest.mark.faults]

LAYERS = ("job", "hook", "status sensor", "janitor")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names of the layers that are broken."""
    file = tmp_path_factory.mktemp("layers") / "broken"
    file.write_text("")
    return file


@pytest.fixture(scope="module")
def scene(world: World, broken: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene.create(tmp_path_factory.mktemp("layers") / "repository", world)
    workspace = broken.with_name("workspace.yaml")
    workspace.write_text(breakable.WORKSPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(breakable.FILE, str(broken))
        with DagsterUi(scene.repository.root, scene.home, workspace) as scene.ui:
            yield scene


@pytest.mark.parametrize("count", range(1, len(LAYERS)), ids=lambda count: f"without-{'-'.join(LAYERS[:count])}")
def test_the_next_layer_covers(
    count: int, scene: Scene, broken: Path, record_property: Callable[[str, object], None]
) -> None:
    broken.write_text("\n".join(LAYERS[:count]))
    scene.scenario("exit 3")
    build = scene.start("UI")
    scene.wait_for_end(build)
    struck_at = scene.first_failure(build)
    assert struck_at is not None
    while build.observer.clean_since() is None and time.time() < struck_at + PATIENCE_SECONDS:
        time.sleep(0.2)
    build.observer.stop()
    clean_since = build.observer.clean_since()
    assert clean_since is not None, f"left: {build.observer.look()}"
    cleaners = scene.cleaners(build, clean_since)
    there = build.observer.at(struck_at).left
    without = f"scenario fails, without {', '.join(LAYERS[:count])}"
    record_property(PROPERTY, Row(without, "UI", str(there), cleaners, clean_since - struck_at))
    assert there is not None
    assert there.containers, "the job has cleaned up after itself"
    assert cleaners.split(", ")[0] == LAYERS[count]


def test_by_hand_when_all_are_broken(scene: Scene, broken: Path) -> None:
    broken.write_text("\n".join(LAYERS))
    scene.scenario("exit 3")
    build = scene.start("UI")
    scene.wait_for_end(build)
    time.sleep(6)  # a round of the sensors
    build.observer.stop()
    left = build.observer.look().left
    assert left is not None
    assert left.staged_tags
    assert left.containers
    assert left.networks
    done = scene.repository.run("cleanup", build.number)
    assert done.returncode == 0, done.stdout + done.stderr
    assert build.observer.look().clean
    again = scene.repository.run("cleanup", build.number)
    assert again.returncode == 0, "it may be called any number of times"
