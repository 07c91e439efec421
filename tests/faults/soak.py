"""Many builds, each with a fault or none; at the end nothing is left of any that failed and all others are intact.

Run by hand: `python -m tests.faults.soak --builds 50 --seed 7 --page docs/reliability.md`.
Needs what the tests of faults need.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.oci import OciRegistry
from tests.browser.dagster_ui import DagsterUi
from tests.faults.alone import place
from tests.faults.faults import FAULTS, kill
from tests.faults.gate import GatedRegistry
from tests.faults.matrix import write_into
from tests.faults.own_engine import OwnEngine
from tests.faults.own_registry import OwnRegistry
from tests.faults.scene import IMAGES, PATIENCE_SECONDS, Scene, World, mirror_busybox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.scene import Build

TOO_LONG = ("registry stopped", "UI, daemon", "of the daemon", "orphan", "engine stopped", "engine killed in build")
LONGEST_MOMENT_SECONDS = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--staging", default="127.0.0.1:5000", help="where the busybox base is taken from")
    parser.add_argument("--page", type=Path, help="a page that the figures are written into")
    options = parser.parse_args()
    with scene_of(options.staging) as scene:
        wrong, figures = soak(scene, options.builds, random.Random(options.seed))
    print(f"\n{figures}")
    print("\n".join(wrong))
    if options.page:
        write_into(options.page, "soak", f"`--builds {options.builds} --seed {options.seed}`: {figures}")
    return 1 if wrong else 0


class scene_of(ExitStack):  # noqa: N801 - reads as what it gives
    """A scene with UI and daemon; ended with everything in it."""

    def __init__(self, staging: str) -> None:
        super().__init__()
        self._staging = OciRegistry(staging)

    def __enter__(self) -> Scene:
        folder = self.enter_context(place())
        registry = self.enter_context(OwnRegistry(folder / "registry"))
        base = Reference(self._staging.host, "mirror/docker.io/library/busybox", "latest")
        mirror_busybox(self._staging, base.with_digest(str(self._staging.digest(base))), registry)
        front = self.enter_context(GatedRegistry(registry.host))
        engine = self.enter_context(OwnEngine(folder / "engine", (int(front.host.partition(":")[2]),)))
        scene = Scene.create(folder / "repository", World(engine, registry, front))
        scene.ui = self.enter_context(DagsterUi(scene.repository.root, scene.home))
        return scene


def soak(scene: Scene, builds: int, chance: random.Random) -> tuple[list[str], str]:
    """Run the builds; what is wrong, and the figures."""
    kinds = dict(meetings(chance))
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, list[float]] = defaultdict(list)
    wrong: list[str] = []
    numbers = []
    for count in range(1, builds + 1):
        name = chance.choice(sorted(kinds))
        scene.fix()
        build = kinds[name](scene)
        numbers.append(build.number)
        recovered_at = build.recovered_at or time.time()
        scene.world.recover()
        status = settle(scene, build, recovered_at)
        build.observer.stop()
        outcomes[name][status] += 1
        if status == "succeeded":
            wrong += incomplete(scene, build)
        elif (clean_since := build.observer.clean_since()) is None:
            wrong.append(f"{build.number} ({name}) left {build.observer.look()}")
        else:
            seconds[name].append(max(0.0, clean_since - recovered_at))
        print(f"{count:3} {build.number} {name}: {status}", flush=True)
    for number in numbers:
        status = scene.eyes.status(number)
        if status != "succeeded" and not scene.eyes.look(number).clean:
            wrong.append(f"{number} has come back: {scene.eyes.look(number)}")
    wrong += [f"{tag} of a successful build is gone or has moved" for tag in scene.damaged()]
    intact = len(scene.intact) // len(IMAGES)
    summary = f"{len(numbers)} builds, {intact} succeeded and are intact, digest for digest; wrong: {len(wrong)}."
    return wrong, f"{summary}\n\n{table(outcomes, seconds)}"


def meetings(chance: random.Random) -> Iterator[tuple[str, Callable[[Scene], Build]]]:
    """What a build may meet: every fault that is soon over, signals at any moment, and nothing at all."""
    for fault in FAULTS:
        if not any(word in fault.name for word in TOO_LONG):
            yield f"{fault.name}, {fault.started}", lambda scene, fault=fault: fault.inflict(scene, fault.started)
    yield "none, command line", lambda scene: scene.start("command line")
    yield "none, UI", lambda scene: scene.start("UI")
    moments: dict[str, Callable[[Scene, Build], object]] = {
        "kill -9 of the run worker": lambda scene, build: kill(scene.worker(build)),
        "kill -9 of the steps": lambda scene, build: kill(*scene.steps(build)),
        "Ctrl-C": lambda _, build: build.process and build.process.send_signal(signal.SIGINT),
    }
    for name, strike in moments.items():
        yield (
            f"{name} at any moment, command line",
            lambda scene, strike=strike: at_any_moment(scene, chance.uniform(0, LONGEST_MOMENT_SECONDS), strike),
        )


def at_any_moment(scene: Scene, moment: float, strike: Callable[[Scene, Build], object]) -> Build:
    scene.scenario("sleep 2")
    build = scene.start("command line")
    time.sleep(moment)
    with suppress(AssertionError, IndexError, ProcessLookupError):  # it is over, or has not begun
        strike(scene, build)
    return build


def settle(scene: Scene, build: Build, since: float) -> str:
    """Wait until the build is over and clean, or patience is."""
    if build.process is not None and not build.output:
        build.output = "".join(build.process.communicate(timeout=180))
    while time.time() < since + PATIENCE_SECONDS:
        run = scene.instance.get_run_by_id(build.run_id)
        if run is not None and run.is_finished and build.observer.clean_since() is not None:
            break
        if scene.eyes.status(build.number) == "succeeded" and run is not None and run.is_success:
            scene.keep(build)
            break
        time.sleep(0.3)
    return scene.eyes.status(build.number)


def incomplete(scene: Scene, build: Build) -> list[str]:
    """What is wrong with a build that says it has succeeded."""
    folder = scene.eyes.artifacts / build.number
    release = json.loads((folder / "release.json").read_text())
    digests = {image["staging"]["digest"] for image in release["images"]}
    kept = {digest for tag, digest in scene.intact.items() if tag.endswith(build.number)}
    files = [name for name in ("import.cfg", "drop/import.cfg", "drop/SHA256SUMS") if not (folder / name).is_file()]
    return [f"{build.number}: {what}" for what in files] + (
        [] if digests == kept else [f"{build.number}: {digests} released, {kept} staged"]
    )


def table(outcomes: dict[str, Counter[str]], seconds: dict[str, list[float]]) -> str:
    lines = ["| fault | builds | how they ended | longest until clean, s |", "|---|---|---|---|"]
    for name, counted in sorted(outcomes.items()):
        ends = ", ".join(f"{count} {status}" for status, count in sorted(counted.items()))
        longest = f"{max(seconds[name]):.1f}" if seconds[name] else ""
        lines.append(f"| {name} | {counted.total()} | {ends} | {longest} |")
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.pop("DAGSTER_HOME", None)
    sys.exit(main())
