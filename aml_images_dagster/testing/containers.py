"""Training jobs as containers of a Docker engine: one per node, on a private network of the job's own.

Importing this module does not import docker-py: that costs a tenth of a second in every process.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from typing_extensions import override

from aml_images_dagster.bounded import LONGEST_LOG, up_to
from aml_images_dagster.catalog.tests_file import PytestScenario
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.faults import EMULATION_HINT
from aml_images_dagster.errors import BadInput, FactoryError, Unreachable
from aml_images_dagster.testing import pytest_scenario
from aml_images_dagster.testing.interface import TestRunner
from aml_images_dagster.testing.launch import Launch, Limits, Node, job_files, mpi_launch, torch_launch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Sequence

    from docker import DockerClient

    from aml_images_dagster.engine.interface import RegistryLogin
    from aml_images_dagster.testing.interface import JobResult, TestJob


class ContainerRunner(TestRunner):
    """Runs scenarios on a Docker engine. Pulled images stay in the engine, as its cache.

    Args:
        docker_host: URL of the engine; None takes what the environment names (DOCKER_HOST).
        windows_docker_host: URL of the engine for Windows images; None takes the same one.
        login: Asked before every pull; None pulls without a name.
        limits: What one container may use.
        pull_seconds: Longest time for pulling the image.
        emulated: Asks the engine for the platforms that it emulates; None tests images on its own alone.
    """

    kind = "local containers"

    def __init__(
        self,
        docker_host: str | None = None,
        *,
        windows_docker_host: str | None = None,
        login: Callable[[], RegistryLogin | None] | None = None,
        limits: Limits | None = None,
        pull_seconds: float = 1800,
        emulated: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self._hosts = {"linux": docker_host, "windows": windows_docker_host or docker_host}
        self._login = login
        self._limits = limits or Limits()
        self._pull_seconds = pull_seconds
        self._emulated = emulated
        self._architecture = ""

    def load(self) -> None:
        """See `TestRunner.load`."""
        from aml_images_dagster.testing import container_job, docker_connection, leftovers  # noqa: F401

    def run(self, job: TestJob, log: Callable[[str], None]) -> JobResult:
        """See `TestRunner.run`.

        What an earlier, crashed process left of the same job is removed first.

        Raises:
            BadInput: The scenario cannot run in an image of this operating system.
            Unreachable: See `TestRunner.run`; also when the engine runs containers of another operating system.
        """
        from aml_images_dagster.testing import leftovers
        from aml_images_dagster.testing.container_job import ContainerJob
        from aml_images_dagster.testing.docker_connection import connected

        launch = launch_of(job)
        host = self._hosts[job.os]
        engine = DockerEngine(host, transfer_seconds=self._pull_seconds)
        info = engine.info()
        if info.os != job.os:
            raise Unreachable(
                f"{job.image} is a {job.os} image, and the engine runs {info.os} containers",
                where=engine.where,
                hint=f"Set the URL of an engine that runs {job.os} containers in the settings.",
            )
        log(f"pulling {job.reference}")
        login = self._login() if self._login else None
        image = engine.pull(job.reference, log, login, platform=job.platform)
        with connected(host) as client:
            leftovers.remove(client, leftovers.JOB, job.name)
            shown = up_to(LONGEST_LOG, log)
            running = ContainerJob(client, job, launch, image, self._limits, info.network_mtu, shown, engine.read_file)
            with _nothing_left(client, job) as leave:
                result = running.run()
                if job.keep_failed and result.status != "passed":
                    leave()
                    log(f"kept for inspection: docker ps --all --filter label={leftovers.JOB}={job.name}")
                return result

    def run_all(self, jobs: Sequence[TestJob], log: Callable[[str], None]) -> Generator[JobResult, None, None]:
        """See `TestRunner.run_all`. One after the other: this engine has no machines to spare."""
        for job in jobs:
            yield self.run(job, log)

    def runs(self, platform: str) -> bool:
        """See `TestRunner.runs`. Whatever is not the engine's own platform is emulated, where that is wanted."""
        return self._emulated is not None or platform == self._own_platform()

    def check(self, computes: Collection[str], platforms: Collection[str] = ()) -> str:
        """See `TestRunner.check`. There are no computes here; of two engines, each is asked when it is used."""
        if self._hosts["linux"] == self._hosts["windows"]:
            self._own_platform()
        foreign = set(platforms) - {self._own_platform()} if platforms else set()
        lacking = sorted(foreign - set(self._emulated() if self._emulated and foreign else ()))
        if lacking:
            raise BadInput(
                f"the engine emulates no {' and no '.join(lacking)}",
                where="test_emulated",
                hint=f"{EMULATION_HINT} Or switch the setting off: images are then not tested on it.",
            )
        return f"{self.kind}{', emulated: ' if foreign else ''}{', '.join(sorted(foreign))}"

    def _own_platform(self) -> str:
        self._architecture = self._architecture or DockerEngine(self._hosts["linux"]).info().architecture
        return f"linux/{self._architecture}"

    @override
    def cancel(self, build: str) -> list[str]:
        from aml_images_dagster.testing import leftovers
        from aml_images_dagster.testing.docker_connection import connected

        removed: list[str] = []
        for host in dict.fromkeys(self._hosts.values()):
            with connected(host) as client:
                removed += leftovers.remove(client, leftovers.BUILD, build)
        return removed

    @override
    def live(self, build: str) -> list[str]:
        from aml_images_dagster.testing import leftovers
        from aml_images_dagster.testing.docker_connection import connected

        found: list[str] = []
        for host in dict.fromkeys(self._hosts.values()):
            with connected(host) as client:
                found += leftovers.found(client, leftovers.BUILD, build)
        return found


def launch_of(job: TestJob) -> Launch:
    """What a job starts, by the kind and distribution of its scenario: by default one process on one node."""
    scenario = job.scenario
    if isinstance(scenario, PytestScenario):
        return pytest_scenario.launch(job, scenario)
    if scenario.distribution == "mpi":
        return mpi_launch(job, scenario)
    if scenario.distribution == "pytorch":
        return torch_launch(job, scenario)
    return Launch((Node("node0", ("python", scenario.script)),), job_files(job).finish())


@contextmanager
def _nothing_left(client: DockerClient, job: TestJob) -> Iterator[Callable[[], None]]:
    """Remove everything of the job at the end, however it ends; what ended it stays what the caller sees.

    Gives a function that leaves it all where it is instead.
    """
    from aml_images_dagster.testing import leftovers
    from aml_images_dagster.testing.docker_connection import ENGINE_ERRORS

    kept = threading.Event()
    try:
        yield kept.set
    except BaseException as error:
        try:
            leftovers.remove(client, leftovers.JOB, job.name)
        except (FactoryError, *ENGINE_ERRORS) as leftover:
            error.add_note(f"Not everything of the job {job.name} could be removed: {leftover}")
        raise
    if not kept.is_set():
        leftovers.remove(client, leftovers.JOB, job.name)
