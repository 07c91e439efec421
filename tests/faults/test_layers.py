"""Cleanup layers are broken: each that is left covers the holes of the others; at last there is a person."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.browser.dagster_ui import DagsterUi
from tests.faults import breakable
from tests.faults.matrix import PROPERTY, Row
from tests.faults.scene import Scene
from tests.faults.verification import wait_until_clean

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


@pytest.mark.parametrize("working", LAYERS[1:])
def test_every_layer_is_enough(
    working: str, scene: Scene, broken: Path, record_property: Callable[[str, object], None]
) -> None:
    others = [layer for layer in LAYERS if layer != working]
    broken.write_text("\n".join(others))
    scene.scenario("exit 3")
    build = scene.start("UI")
    scene.wait_for_end(build)
    clean = wait_until_clean(build, scene)
    # The hook is faster than who looks from outside; the report is written when all is clean.
    report = scene.eyes.artifacts / build.number / "cleanup.json"
    scene.until(report.exists, f"{working} reports nothing", 60)
    removed = {row["kind"] for row in json.loads(report.read_text())["rows"]}
    assert "job" in removed, "the job has cleaned up after itself"
    cleaners = scene.until(lambda: scene.found_by(build), f"{working} does not say that it found anything")
    assert cleaners == working
    row = Row(f"scenario fails; broken: {', '.join(others)}", "UI", str(clean.there), cleaners, clean.seconds)
    record_property(PROPERTY, list(row))


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
    assert "Nothing is left" in again.stdout, "it tells what it has done now"
