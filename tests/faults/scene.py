"""A repository of images with an engine, a registry and perhaps a Dagster UI of its own, where builds meet faults."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

import dagster as dg

from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.defs.keys import BUILD_JOB, CLEANUP_JOB, DROP, IMPORT_CFG, RELEASE_JSON, STAGES, asset_key
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.oci import OciRegistry
from tests.browser.dagster_ui import LOCATION, DagsterUi
from tests.dagster_instance import open_instance
from tests.faults.alone import command_of, naming
from tests.faults.evidence import Eyes, Observer
from tests.faults.own_engine import is_alive
from tests.image_repository import PRIVATE, TESTS, ImageRepository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.gate import GatedRegistry
    from tests.faults.own_engine import OwnEngine
    from tests.faults.own_registry import OwnRegistry
    from tests.forked_command import ForkedCommand

Started = Literal["command line", "UI"]
T = TypeVar("T")

MAKE_INSTANCE = """from aml_images_dagster.cli.instance import open_instance
from aml_images_dagster.settings import load_settings
open_instance(load_settings())"""

REMOVED = r"(job|staged image|temporary folder) \S+: (removed|digest kept)"
IMAGES = ("tools/shell", "apps/other")
FAULTY = "apps/other"
EVIDENCE = 7
"""Artifacts of an image: two SBOMs, each with a signature, provenance, test results, and the image's signature."""
PATIENCE_SECONDS = 60
"""How long after recovery something of a build may be left."""
LONGEST_BUILD_SECONDS = 240
"""Of a busy machine."""

LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """mutation ($id: String!, $policy: TerminateRunPolicy) { terminateRun(runId: $id, terminatePolicy: $policy)
    { __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }"""


@dataclass
class World:
    """What builds need: an engine and a registry that may be broken, and a front that answers wrongly when told to.

    Attributes:
        engine: Reaches the front under the same name as this machine.
        registry: Staging itself; asked directly for evidence.
        front: Staging as builds know it.
    """

    engine: OwnEngine
    registry: OwnRegistry
    front: GatedRegistry

    def recover(self) -> None:
        """Undo every fault."""
        self.front.faults.clear()
        self.front.gate.set()
        self.registry.start()
        self.engine.free_disk()
        self.engine.start()

    def clear(self) -> None:
        """Undo every fault, and let no test see what another has left."""
        self.recover()
        self.engine.remove_containers()


def mirror_busybox(staging: OciRegistry, busybox: Reference, registry: OwnRegistry) -> None:
    """Put the base of all images into a registry of the tests' own."""
    own = OciRegistry(registry.host)
    name = "mirror/docker.io/library/busybox"
    copy_image(staging, own, busybox, name)
    own.tag(Reference(own.host, name, digest=busybox.digest), "latest")


@dataclass
class Build:
    """A build that runs, or has run.

    Attributes:
        run_id: The Dagster run.
        number: The build's number.
        observer: What is seen of it.
        started: How.
        process: The command line that runs it; None for one that the UI launched.
        struck_at: When the fault struck.
        recovered_at: When it was over: only then can anybody clean up.
    """

    run_id: str
    number: str
    observer: Observer
    started: Started
    process: ForkedCommand | None = None
    struck_at: float | None = None
    recovered_at: float | None = None
    output: str = ""


@dataclass
class Scene:
    """Where faults happen. Its builds run one after another.

    Attributes:
        world: What builds are built on.
        repository: Its images.
        ui: Serves the repository's own instance, so that it also sees what the command line runs; None without.
        environment: Settings of the next builds that the command line starts.
        intact: Staging tags of every build that succeeded, with their digests: no fault may take them away.
        evidence: Of each, the digests of what is attached to it.
    """

    world: World
    repository: ImageRepository
    ui: DagsterUi | None = None
    intact: dict[str, str] = field(default_factory=dict)
    evidence: dict[str, set[str]] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: f"instruction-{uuid.uuid4().hex}")
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, root: Path, world: World, **settings: object) -> Scene:
        """A repository whose settings name the world's parts."""
        repository = ImageRepository.create(root, world.front.host, world.registry.host, f"-{uuid.uuid4().hex[:6]}")
        own = {"docker-host": world.engine.url, "min-free-gb": 0.02, "build-network": "none", **settings}
        with (root / "pyproject.toml").open("a") as file:
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in own.items())
        repository.commit("settings")
        return cls(world, repository)

    @property
    def home(self) -> Path:
        return self.repository.root / ".aml-images" / "dagster"

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        return open_instance(self.home)

    @cached_property
    def eyes(self) -> Eyes:
        families = tuple(self.repository.families.values())
        registry = OciRegistry(self.world.registry.host, timeout_seconds=5)
        return Eyes(self.world.engine, registry, self.world.registry, families, self.repository.artifacts, self.mark)

    # What is built

    def scenario(self, script: str, timeout_minutes: float = 2) -> None:
        """Give the faulty image another test, and new content, so that it is built and tested again."""
        self._renew()
        self.new_test(script, timeout_minutes)

    def new_test(self, script: str, timeout_minutes: float = 2) -> None:
        """Another test for the faulty image as it is."""
        self.repository.write(self.repository.root / "checks" / "faulty.py", f"{script}\n")
        scenarios = [{"name": "faulty", "kind": "training", "script": "faulty.py"}]
        tests = {"scenarios": scenarios, "timeout_minutes": timeout_minutes}
        self.repository.write(self.repository.folder(FAULTY) / "tests.json", json.dumps(tests))

    def instruction(self, script: str) -> None:
        """Add an instruction to the faulty image that no cache has."""
        self._renew()
        with (self.repository.folder(FAULTY) / "Dockerfile").open("a") as file:
            file.write(f"RUN : {self.mark} {uuid.uuid4()}; {script}\n")

    def content(self) -> None:
        """New content for the faulty image."""
        self._renew()

    def fix(self) -> None:
        """Images that can be built; with new content, so that nothing is reused from a build that failed."""
        self.environment.clear()
        self.repository.git("checkout", "-q", "--", ".")
        self._renew()

    def _renew(self) -> None:
        self.repository.write(self.repository.folder(FAULTY) / "Dockerfile.private", f"# {uuid.uuid4()}\n{PRIVATE}")
        self.repository.write(self.repository.folder(FAULTY) / "tests.json", json.dumps(TESTS))

    # Builds

    def start(self, started: Started, *images: str) -> Build:
        """Start a build and observe it from the moment on that its run is known."""
        chosen = [self.repository.image(image) for image in images or IMAGES]
        if started == "UI":
            run_id, process = self._launch(chosen), None
        else:
            known = {run.run_id for run in self.instance.get_runs()}
            process = self.repository.fork("build", *chosen, **self.environment)
            run_id = self.until(lambda: self._new_run(known, process), "no run was started")
        record = self.instance.get_run_record_by_id(run_id)
        assert record is not None
        number = build_number(run_id, record.create_timestamp)
        return Build(run_id, number, Observer(self.eyes, number), started, process)

    def plan_and_stop(self) -> tuple[ForkedCommand, Path]:
        """Start a build at the command line and stop its process when it has planned and has no run yet; its plan."""
        plans = self.repository.artifacts / "plans"
        before = {*plans.glob("*.json")}
        self.repository.write(
            self.repository.folder(FAULTY) / "image.json", json.dumps({"description": uuid.uuid4().hex})
        )
        runs = self.home / "history" / "runs.db"
        with closing(sqlite3.connect(runs, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")  # nobody can write a run until it ends
            process = self.repository.fork("build", *map(self.repository.image, IMAGES), **self.environment)
            (plan,) = self.until(lambda: {*plans.glob("*.json")} - before, "nothing was planned")
            process.send_signal(signal.SIGSTOP)
        return process, plan

    def _new_run(self, known: set[str], process: ForkedCommand) -> str | None:
        assert process.poll() is None, process.communicate()
        builds = self.instance.get_runs(dg.RunsFilter(job_name=BUILD_JOB))  # beside those of cleanups
        return next((run.run_id for run in builds if run.run_id not in known), None)

    def _launch(self, images: list[str]) -> str:
        assert self.ui is not None
        keys = [asset_key(image, stage) for image in images for stage in STAGES]
        selector = {
            "repositoryName": "__repository__",
            "repositoryLocationName": LOCATION,
            "jobName": BUILD_JOB,
            "assetSelection": [{"path": key.path} for key in (*keys, RELEASE_JSON, IMPORT_CFG, DROP)],
        }
        answer = self.ui.graphql(LAUNCH, params={"selector": selector, "runConfigData": {}})["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def terminate(self, build: Build, policy: str) -> None:
        assert self.ui is not None
        answer = self.ui.graphql(TERMINATE, id=build.run_id, policy=policy)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def succeed(self, started: Started) -> Build:
        """A build that must succeed; its images are intact from now on."""
        build = self.start(started)
        self.wait_for_end(build)
        build.observer.stop()
        status = self.eyes.status(build.number)
        assert status == "succeeded", f"the next build of {self.repository.root} has {status}: {build.output}"
        self.keep(build)
        return build

    def keep(self, build: Build) -> None:
        """Remember the images of a build that has succeeded."""
        for tag in self.eyes.tags(f"--{build.number}"):
            family, _, version = tag.partition(":")
            reference = Reference(self.eyes.registry.host, family, version)
            digest = self.intact[str(reference)] = str(self.eyes.registry.digest(reference))
            self.evidence[str(reference)] = self.world.registry.stored(family).attached(digest)
            assert len(self.evidence[str(reference)]) >= EVIDENCE
        assert len([tag for tag in self.intact if tag.endswith(build.number)]) == len(IMAGES)

    def first_build(self) -> None:
        """Prepare the instance, which the first build would be too late for, and have something to lose."""
        subprocess.run(
            [sys.executable, "-c", MAKE_INSTANCE],
            cwd=self.repository.root,
            check=True,
            env={k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_"))},
        )
        self.succeed("command line")

    def damaged(self) -> list[str]:
        """Tags of successful builds that are gone or have moved, or whose image has lost evidence."""
        digest = self.eyes.registry.digest
        stored = {family: self.world.registry.stored(family) for family in self.eyes.families}

        def is_whole(tag: str, kept: str) -> bool:
            reference = Reference.parse(tag)
            there = stored[reference.repository].attached(kept)
            return digest(reference) == kept and self.evidence[tag] <= there

        return [tag for tag, kept in self.intact.items() if not is_whole(tag, kept)]

    def forget(self, build: Build) -> None:
        """A person cleans up a build that has succeeded: what it has in staging may go."""
        for tag in [tag for tag in self.intact if tag.endswith(build.number)]:
            del self.intact[tag]

    # Waiting for the moment, and striking

    def until(self, condition: Callable[[], T | None], otherwise: str, seconds: float = LONGEST_BUILD_SECONDS) -> T:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{otherwise} after {seconds} s"
            time.sleep(0.1)
        return found

    def wait_for_job(self, build: Build) -> None:
        """Until a scenario of the faulty image runs."""

        def runs() -> bool:
            with self.world.engine.client() as client:
                return bool(client.api.containers(filters={"label": f"aml-images.build={build.number}"}))

        self._until_or_end(build, runs, "no job was started")

    def wait_for_instruction(self, build: Build) -> None:
        """Until a RUN of a Dockerfile runs."""

        self._until_or_end(build, lambda: bool(self.eyes.instructions()), "no RUN was started")

    def _until_or_end(self, build: Build, condition: Callable[[], bool], otherwise: str) -> None:
        def met() -> bool:
            if condition():
                return True
            run = self.instance.get_run_by_id(build.run_id)
            assert run is not None and not run.is_finished, f"{otherwise}: the run is over, {self.messages(build)}"
            return False

        self.until(met, otherwise)

    def wait_for_end(self, build: Build, seconds: float = LONGEST_BUILD_SECONDS) -> None:
        """Until the run is over, and the command line that ran it."""
        if build.process is not None and not build.output:
            try:
                out, err = build.process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(build.process.pid, signal.SIGKILL)
                raise
            build.output = out + err
            assert "Traceback" not in build.output, build.output

        def ended() -> bool:
            run = self.instance.get_run_by_id(build.run_id)
            return run is not None and run.is_finished

        self.until(ended, "the run has not ended", seconds)

    def strike(self, build: Build, fault: Callable[[], object]) -> None:
        """Let a fault happen now; unless it lasts, its end is the recovery."""
        build.observer.look()
        build.struck_at = time.time()
        fault()

    def worker(self, build: Build) -> int:
        """Process that runs the run: the command line itself, or what the UI launched."""
        pattern = r"executor: parent process \(pid: (\d+)\)"
        return int(self.until(lambda: self._logged(build, pattern), "the run has not begun")[0])

    def steps(self, build: Build) -> list[int]:
        """Processes of the steps that have been started and live."""
        pids = [int(pid) for pid in self._logged(build, r"STEP_WORKER_STARTED pid (\d+)")]
        return [pid for pid in pids if is_alive(pid)]

    def clients(self, build: Build) -> list[int]:
        """The calls of buildx of a build."""
        return [pid for pid in naming(f"{build.number}-") if b"docker-buildx\0build" in command_of(pid)]

    def _logged(self, build: Build, pattern: str) -> list[str]:
        return [found.group(1) for line in self.messages(build) if (found := re.search(pattern, line))]

    def messages(self, build: Build) -> list[str]:
        """What the run has logged, with the process ids of its steps."""
        lines = []
        for entry in self.instance.all_logs(build.run_id):
            event = entry.dagster_event
            lines.append(f"{entry.timestamp:.2f} {entry.user_message or (event.message if event else '')}")
            if event and event.event_type_value == "STEP_WORKER_STARTED":
                pid = event.engine_event_data.metadata.get("pid")
                lines.append(f"STEP_WORKER_STARTED pid {pid.value if pid else ''}")
        return lines

    def first_failure(self, build: Build) -> float | None:
        """When the first step failed."""
        entries = self.instance.all_logs(build.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        return min((entry.timestamp for entry in entries), default=None)

    def cleaners(self, build: Build) -> str:
        """Which layers found something of the build. The step itself says nothing, and so does the command line."""
        last = "command line" if "was cleaned up" in build.output else "the step itself"
        return self.found_by(build) or last

    def found_by(self, build: Build) -> str:
        """Which layers say so far that they have found something of the build, in their order."""
        seen: list[tuple[float, str]] = []
        for entry in self.instance.all_logs(build.run_id):
            if re.search(REMOVED, entry.user_message):
                seen.append((entry.timestamp, "hook"))
        for run in self.instance.get_runs(dg.RunsFilter(job_name=CLEANUP_JOB), limit=40):
            for entry in self.instance.all_logs(run.run_id):
                if re.search(rf"{re.escape(build.number)}: {REMOVED}", entry.user_message):
                    seen.append((entry.timestamp, layer_of(run.tags.get("dagster/sensor_name", ""))))
        return ", ".join(dict.fromkeys(layer for _, layer in sorted(seen)))


def layer_of(sensor: str) -> str:
    return sensor if sensor == "janitor" else "status sensor"
