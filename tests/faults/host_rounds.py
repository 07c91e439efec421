"""Two hosts build, release and clean up at once, and one of them is killed at a random moment; seen from outside.

Run by hand: `python -m tests.faults.host_rounds --rounds 20 --seed 7`. It needs root, the engine, Debian's Postgres,
`docker-registry`, and busybox in the mirror of the staging registry on 127.0.0.1:5000. The hosts share Postgres, the
engine, and the emulated Azure: registries, Blob and Azure ML.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import dagster as dg

from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.defs.keys import BUILD_JOB
from aml_images_dagster.defs.run_state import PROCESS_TAG, UNFINISHED
from aml_images_dagster.testing.azure_ml.command import build_key
from tests.dagster_instance import open_instance
from tests.emulators.azure.blob_storage import BlobStorage
from tests.emulators.azure.clockwork import Clockwork
from tests.emulators.azure.cloud import EmulatedCloud
from tests.emulators.azure.machine_learning import ENDED, MachineLearning
from tests.faults.alone import place
from tests.faults.hosts import Host, HostProcess
from tests.image_repository import PRIVATE, ImageRepository
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE = "apps/other"
MIRROR = "127.0.0.1:5000"
HOST_PATIENCE_SECONDS = 15
LATEST_MOMENT_SECONDS = 12.0
"""When a host may be killed, after the start of its processes or of its build; by then most builds have ended."""
IN_A_BUILD = 0.75
"""The share of hosts that are killed after their build has started."""
START_SECONDS = 120
JOB_SECONDS = 6
CLEAN_SECONDS = 240
"""How long after the death of a host something of it may be left. Dagster gives a run 180 s to start."""


@dataclass
class Death:
    """A host that was killed.

    Attributes:
        host: Its name.
        at: When, as `time.time()`.
        runs: The runs that it executed, and the build of each; empty for one that is no build.
        phase: What its build was doing.
        clean: When nothing was left of it; None before.
    """

    host: str
    at: float
    runs: dict[str, str]
    phase: str
    clean: float | None = None


@dataclass
class Figures:
    """What was played, and what must not be.

    Attributes:
        rounds: How many.
        deaths: Hosts that were killed.
        outcomes: How builds ended.
        released: Builds whose release was begun.
        removed: Builds whose removal was begun.
        wrong: What must not be.
    """

    rounds: int = 0
    deaths: list[Death] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    released: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        phases = Counter(death.phase for death in self.deaths)
        killed = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.outcomes.items()))
        longest = max((death.clean - death.at for death in self.deaths if death.clean and death.runs), default=0.0)
        return (
            f"{self.rounds} rounds, {self.outcomes.total()} builds ({ended}), {len(self.released)} releases, "
            f"{len(self.removed)} removals, {len(self.deaths)} hosts killed ({killed}); "
            f"longest until nothing was left: {longest:.0f} s; wrong: {len(self.wrong)}"
        )


class Site(ExitStack):
    """Two hosts, and what they share.

    Attributes:
        hosts: Both.
        serving: The one that has the daemon.
        figures: What was seen so far.
    """

    def __enter__(self) -> Self:
        self.enter_context(mock.patch.dict(os.environ))
        for name in [name for name in os.environ if name.startswith(("AML_IMAGES_", "AZURE_", "IDENTITY_", "MSI_"))]:
            del os.environ[name]
        folder = self.enter_context(place(alone=False))
        postgres = self.enter_context(PostgresServer())
        cloud = self._cloud = self.enter_context(EmulatedCloud(folder))
        self._blobs = cloud.start(BlobStorage(cloud))
        self._blobs.create("factory")
        self._workspace = MachineLearning(cloud, self._blobs, Clockwork(running_seconds=JOB_SECONDS))
        suffix = f"-{uuid.uuid4().hex[:6]}"
        repository = ImageRepository.create(folder / "repository", MIRROR, MIRROR, suffix)
        self._image, self._family = repository.image(IMAGE), repository.families["apps"]
        self._latest = f"public{suffix}/other"
        environment = {
            **cloud.environment,
            **postgres.environment,
            "AML_IMAGES_ARTIFACTS": "az://factory/builds",
            "AML_IMAGES_AZURE__STORAGE_ACCOUNT": self._blobs.host,
            "AML_IMAGES_AZURE__JOB_POLL_SECONDS": "0.5",
            "AML_IMAGES_HOST_PATIENCE_SECONDS": str(HOST_PATIENCE_SECONDS),
            "AML_IMAGES_MIN_FREE_GB": "0.02",
            "AML_IMAGES_BUILD_NETWORK": "none",
        }
        services = (cloud.arm, cloud.vault, cloud.staging, cloud.production, self._blobs)
        reached = [cloud.identity.url.split("/")[2], MIRROR, *(service.host for service in services)]
        ports = {int(host.partition(":")[2]) for host in reached} | {int(postgres.environment["PGPORT"])}
        self.hosts = [
            self.enter_context(Host(f"{folder.name}-{name}", folder / name, ports, repository.root, environment))
            for name in "ab"
        ]
        os.environ.update(postgres.environment)
        self._home = folder / "a" / "dagster"
        self._services: list[HostProcess] = []
        self.figures = Figures()
        self._kept: dict[str, str] = {}
        # The first command makes the tables, which two at once do not.
        first = self.build(self.hosts[0])
        assert first.wait() == 0, first.said
        self.serve(self.hosts[0])
        return self

    def serve(self, host: Host) -> None:
        """Start code server and daemon on a host, as whoever looks after a cluster does when it was on another one."""
        self._services = [host.serve(), host.start_daemon()]
        self.serving = host

    # A round

    def play(self, chance: random.Random) -> None:
        """Both hosts build; one releases the newest build, the other removes an old one; one is killed."""
        figures = self.figures
        figures.rounds += 1
        complete = self._complete()
        releases, removes = chance.sample(self.hosts, 2)
        running = [(host, "build", self.build(host)) for host in self.hosts]
        if newest := next((build for build in reversed(complete) if build not in figures.removed), None):
            figures.released.append(newest)
            running.append((releases, "release", releases.aml_images("release", newest)))
        if old := next((build for build in complete[:-1] if build not in figures.released), None):
            figures.removed.append(old)
            self._kept = {tag: digest for tag, digest in self._kept.items() if not tag.endswith(f"--{old}")}
            running.append((removes, "cleanup", removes.aml_images("cleanup", old, "--yes")))
        victim = chance.choice(self.hosts)
        mine = [process for host, _, process in running if host is victim]
        if chance.random() < IN_A_BUILD:
            wait(lambda: bool(self.builds_on(victim)) or not mine[0].is_running, START_SECONDS, every=0.3)
        deadline = time.monotonic() + chance.uniform(0, LATEST_MOMENT_SECONDS)
        wait(lambda: time.monotonic() > deadline or not any(one.is_running for one in mine), LATEST_MOMENT_SECONDS)
        figures.deaths.append(self._kill(victim))
        survivor = next(host for host in self.hosts if host is not victim)
        if not all(service.is_running for service in self._services):
            self.serve(survivor)
        for host, what, process in running:
            if host is survivor and process.wait() != 0:
                figures.wrong.append(f"{what} on {host.name}, which lived: {process.said[-3000:]}")
        victim.start()
        self.look()

    def build(self, host: Host, instruction: str = "") -> HostProcess:
        """Begin to build what nobody has built."""
        folder = host.root / "images" / self._family / "other"
        (folder / "Dockerfile.private").write_text(f"# {uuid.uuid4()}\n{PRIVATE}{instruction}\n")
        who = [f"-c user.{name}=h@example.com" for name in ("name", "email")]
        commit = f"git {' '.join(who)} commit -q -a -m change"
        assert host.execute("sh", "-c", commit).wait() == 0
        return host.aml_images("build", self._image)

    def _complete(self) -> list[str]:
        """Builds that have succeeded, oldest first."""
        found = [record for record in self.records().values() if record["status"] == "succeeded"]
        return [str(one["build"]) for one in sorted(found, key=lambda one: datetime.fromisoformat(one["created"]))]

    def _kill(self, host: Host) -> Death:
        host.kill()
        at, runs = time.time(), self._runs_on(host)
        build = next(filter(None, runs.values()), "")
        if not build:
            phase = "while they built nothing"
        elif not (files := self._files(build)):
            phase = "before a build had a record"
        else:
            staged = any(name.endswith("/staged.json") for name in files)
            phase = "in a test" if staged else "in a build"
        return Death(host.name, at, runs, phase)

    def _runs_on(self, host: Host) -> dict[str, str]:
        """The runs that a host executes, and the build of each; empty for one that is no build."""
        with self._instance() as instance:
            records = instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED))
        return {
            record.dagster_run.run_id: build_number(record.dagster_run.run_id, record.create_timestamp)
            if record.dagster_run.job_name == BUILD_JOB
            else ""
            for record in records
            if record.dagster_run.tags.get(PROCESS_TAG, "").startswith(f"{host.name}:")
        }

    def builds_on(self, host: Host) -> list[str]:
        """The builds that run on a host."""
        return list(filter(None, self._runs_on(host).values()))

    # What is seen

    def look(self) -> None:
        """Note what is wrong, and which hosts nothing is left of."""
        records, tags = self.records(), self._tags()
        for build in self._complete():
            if build not in self.figures.removed:
                self._kept |= {tag: digest for tag, digest in tags.items() if tag.endswith(f"--{build}")}
        lost = [tag for tag, digest in self._kept.items() if tags.get(tag) != digest]
        self.figures.wrong += [f"{tag} of a complete build is gone or has moved" for tag in lost]
        for tag in lost:
            del self._kept[tag]
        with self._instance() as instance:
            for death in self.figures.deaths:
                if death.clean is None and not self._left_by(death, instance, records):
                    death.clean = time.time()

    def finish(self) -> Figures:
        """Wait until nothing is left of any host that was killed, and of any build that did not succeed."""
        figures = self.figures

        def is_clean() -> bool:
            self.look()
            return all(death.clean for death in figures.deaths) and not self.left()

        if not wait(is_clean, CLEAN_SECONDS, every=1):
            records = self.records()
            with self._instance() as instance:
                left = [(death, self._left_by(death, instance, records)) for death in figures.deaths if not death.clean]
            figures.wrong += [f"{death.host}, killed {death.phase}, left {found}" for death, found in left]
            figures.wrong += self.left()
        with self._instance() as instance:
            if runs := instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, job_name=BUILD_JOB)):
                figures.wrong.append(f"runs have not ended: {runs}")
        last = self.hosts[1].aml_images("release", self._complete()[-1])
        if last.wait() != 0:
            figures.wrong.append(f"the last build cannot be released: {last.said}")
        served = self._cloud.production.plain.digest(
            Reference(self._cloud.production.plain.host, self._latest, "latest")
        )
        if served not in {d for t, d in self._tags().items() if t.endswith(f"--{self._complete()[-1]}")}:
            figures.wrong.append(f":latest is {served}")
        figures.outcomes = Counter(record["status"] for record in self.records().values())
        return figures

    def _left_by(self, death: Death, instance: dg.DagsterInstance, records: dict[str, Any]) -> list[str]:
        found = []
        for run_id, build in death.runs.items():
            run = instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                found.append(f"{run.status.value} run {run_id} of {run.job_name}")
            if build and records.get(build, {}).get("status") != "succeeded":
                found += self._of(build)
        return found

    def left(self) -> list[str]:
        """What is there of builds that did not succeed."""
        found = []
        for build, record in self.records().items():
            if record["status"] in ("running", "partial"):
                found.append(f"{build} is {record['status']}")
            elif record["status"] != "succeeded":
                found += self._of(build)
        return found

    def _of(self, build: str) -> list[str]:
        jobs = [
            job.name
            for job in list(self._workspace.jobs.values())
            if job.status not in ENDED and build_key(build) in job.properties["tags"]
        ]
        tags = [tag for tag in self._tags() if tag.endswith(f"--{build}")]
        return [*(f"{build}/{name}" for name in self._files(build) if name == "release.json"), *tags, *jobs]

    def _files(self, build: str) -> list[str]:
        prefix = f"builds/{build}/"
        return [
            name.removeprefix(prefix) for name in list(self._blobs.containers["factory"]) if name.startswith(prefix)
        ]

    def records(self) -> dict[str, Any]:
        """The record of every build that has begun."""
        found = {}
        for name, blob in list(self._blobs.containers["factory"].items()):
            _, build, file = [*name.split("/", 2), "", ""][:3]
            if file == "build.json":
                found[build] = json.loads(blob.content)
        return found

    def _tags(self) -> dict[str, str]:
        """Digest by tag of staging."""
        registry = self._cloud.staging.plain
        tags = [Reference(registry.host, self._family, tag) for tag in registry.tags(self._family)]
        return {str(each.tag): digest for each in tags if (digest := registry.digest(each))}

    def _instance(self) -> dg.DagsterInstance:
        return open_instance(self._home)


def wait(condition: Callable[[], bool], seconds: float, every: float = 0.1) -> bool:
    """Whether something comes to be in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def rounds(count: int, seed: int) -> Figures:
    """Play."""
    chance = random.Random(seed)
    with Site() as site:
        for number in range(1, count + 1):
            before = len(site.figures.wrong)
            site.play(chance)
            last = site.figures.deaths[-1]
            well = "; ".join(site.figures.wrong[before:]) or "well"
            print(f"{number}/{count}: {last.host[-1]} killed {last.phase}: {well}", flush=True)
        return site.finish()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the hosts would outlive it
    figures = rounds(options.rounds, options.seed)
    print("\n".join([f"seed {options.seed}: {figures}", *figures.wrong]))
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
