"""Training jobs as containers of a Docker engine: one per node, on a private network of the job's own."""

from __future__ import annotations

import io
import re
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, NotFound
from docker.types import LogConfig

from aml_images_dagster.catalog.tests_file import PytestScenario
from aml_images_dagster.errors import FactoryError, Unreachable
from aml_images_dagster.testing import leftovers, mpi, pytest_scenario, single, torch_ranks
from aml_images_dagster.testing.docker_connection import ENGINE_ERRORS, connected, engine_message
from aml_images_dagster.testing.failure_reason import failure_reason, missing_program, telling_line
from aml_images_dagster.testing.interface import JobResult, JobStatus, NodeLog, TestJob
from aml_images_dagster.testing.launch import Launch, Node, inside, job_environment
from aml_images_dagster.testing.pull import pull
from aml_images_dagster.testing.watch import Ended, Line, Lost, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from docker import DockerClient
    from docker.models.containers import Container

    from aml_images_dagster.engine.interface import OperatingSystem, RegistryLogin

_MTU = "com.docker.network.driver.mtu"
_LAST_WORDS_SECONDS = 10
"""How long a killed container's output is waited for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use.

    Attributes:
        memory_bytes: Memory without swap.
        shared_memory_bytes: Size of /dev/shm; part of the memory.
        processes: Number of processes and threads; Linux only.
        log_characters: How much of a node's output a result keeps; the log that is streamed is whole.
    """

    memory_bytes: int = 8 * 2**30
    shared_memory_bytes: int = 2 * 2**30
    processes: int = 4096
    log_characters: int = 1_000_000


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: JobStatus
    reason: str = ""


class ContainerRunner:
    """Runs scenarios on one Docker engine.

    Args:
        docker_host: URL of the engine; None takes what the environment names (DOCKER_HOST).
        login: Asked before every pull; None pulls without a name.
        limits: What one container may use.
    """

    kind = "local containers"

    def __init__(
        self,
        docker_host: str | None = None,
        *,
        login: Callable[[], RegistryLogin | None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._docker_host = docker_host
        self._login = login
        self._limits = limits or Limits()

    def run(self, job: TestJob, log: Callable[[str], None]) -> JobResult:
        """See `TestRunner.run`.

        What an earlier, crashed process left of the same job is removed first.

        Raises:
            BadInput: The scenario cannot run in an image of this operating system.
            Unreachable: See `TestRunner.run`; also when the engine runs containers of another operating system.
        """
        launch = _launch(job)
        with connected(self._docker_host) as client:
            _check_os(client, job)
            image = pull(client, job.reference, log, self._login() if self._login else None)
            leftovers.remove(client, leftovers.JOB, job.name)
            started = time.monotonic()
            with _nothing_left(client, job):
                return self._run(client, job, launch, image, log, started)

    def cancel(self, build: str) -> list[str]:
        """See `TestRunner.cancel`."""
        with connected(self._docker_host) as client:
            return leftovers.remove(client, leftovers.BUILD, build)

    def live(self, build: str) -> list[str]:
        """See `TestRunner.live`."""
        with connected(self._docker_host) as client:
            return leftovers.found(client, leftovers.BUILD, build)

    def _run(
        self,
        client: DockerClient,
        job: TestJob,
        launch: Launch,
        image: str,
        log: Callable[[str], None],
        started: float,
    ) -> JobResult:
        deadline = started + job.timeout_seconds
        _create_network(client, job)
        if launch.shared_folder:
            client.volumes.create(name=job.name, labels=_labels(job))
        containers: dict[str, Container] = {}
        for node in launch.nodes:
            options = container_options(job, launch, node, self._limits)
            alias = client.api.create_endpoint_config(aliases=[node.name])
            container = client.containers.create(image, networking_config={job.name: alias}, **options)
            container.put_archive("C:\\" if job.os == "windows" else "/", launch.files)
            containers[node.name] = container
        for name, container in containers.items():
            try:
                container.start()
            except APIError as error:
                reason = _not_started(error)
                if not reason:
                    raise
                return JobResult(job.name, "failed", time.monotonic() - started, _of(name, reason, launch))
        with Watch(containers, self._limits.log_characters) as watch:
            outcome = self._follow(watch, containers, launch, deadline, job, log)
            _stop(containers)
            _drain(watch, log)
            logs = tuple(NodeLog(node.name, watch.outputs[node.name].text()) for node in launch.nodes)
        return JobResult(job.name, outcome.status, time.monotonic() - started, outcome.reason, logs)

    def _follow(
        self,
        watch: Watch,
        containers: Mapping[str, Container],
        launch: Launch,
        deadline: float,
        job: TestJob,
        log: Callable[[str], None],
    ) -> _Outcome:
        """Wait for the end of the job: the leader's, every node's, the first failure or the deadline."""
        running = set(containers)
        while True:
            event = watch.next(deadline - time.monotonic())
            match event:
                case None:
                    last = telling_line(watch.outputs[launch.nodes[0].name].text())
                    said = f"; its last words: {last}" if last else ""
                    return _Outcome("timed out", f"timed out after {job.timeout_seconds:g} s{said}")
                case Line(node, text):
                    log(f"{node}: {text}")
                case Lost(_, error):
                    raise error
                case Ended(node, exit_code):
                    running.discard(node)
                    if exit_code != 0:
                        return self._failure(node, exit_code, containers[node], watch, launch)
                    if node == launch.leader or not running:
                        return _Outcome("passed")

    def _failure(
        self, node: str, exit_code: int | None, container: Container, watch: Watch, launch: Launch
    ) -> _Outcome:
        state = _state(container)
        if exit_code is None or state is None:
            return _Outcome("canceled", "canceled: its containers were removed from outside")
        if state["OOMKilled"]:
            limit = self._limits.memory_bytes / 2**30
            return _Outcome("failed", _of(node, f"out of memory: the limit is {limit:g} GiB", launch))
        report = _read_file(container, launch.report) if launch.report else b""
        explained = launch.explain(report) if launch.explain and report else ""
        reason = explained or failure_reason(exit_code, watch.outputs[node].text())
        return _Outcome("failed", _of(node, reason, launch))


def container_options(job: TestJob, launch: Launch, node: Node, limits: Limits) -> dict[str, Any]:
    """What the engine is told about a container, as arguments of docker-py's `containers.create`."""
    options: dict[str, Any] = {
        "name": f"{job.name}-{node.name}",
        "hostname": node.name,
        "network": job.name,
        "labels": _labels(job),
        "entrypoint": [node.command[0]],
        "command": list(node.command[1:]),
        "environment": job_environment(job) | dict(node.environment),
        "working_dir": inside(job.os, "code"),
        "mem_limit": limits.memory_bytes,
        # The engine keeps little on its disk; the runner reads along.
        "log_config": LogConfig(type="json-file", config={"max-size": "20m", "max-file": "2"}),
    }
    if job.os == "linux":
        options |= {
            "init": True,
            "memswap_limit": limits.memory_bytes,
            "pids_limit": limits.processes,
            "security_opt": ["no-new-privileges"],
            "shm_size": limits.shared_memory_bytes,
        }
    if launch.user:
        options["user"] = launch.user
    if launch.shared_folder:
        options["volumes"] = {job.name: {"bind": launch.shared_folder, "mode": "rw"}}
    return options


def _launch(job: TestJob) -> Launch:
    scenario = job.scenario
    if isinstance(scenario, PytestScenario):
        return pytest_scenario.launch(job, scenario)
    if scenario.distribution == "mpi":
        return mpi.launch(job, scenario)
    if scenario.distribution == "pytorch":
        return torch_ranks.launch(job, scenario)
    return single.launch(job, scenario)


def _labels(job: TestJob) -> dict[str, str]:
    return {
        leftovers.BUILD: job.build,
        leftovers.IMAGE: job.image,
        leftovers.SCENARIO: job.scenario.name,
        leftovers.JOB: job.name,
    }


def _engine_os(client: DockerClient) -> OperatingSystem:
    return "windows" if client.info()["OSType"] == "windows" else "linux"


def _check_os(client: DockerClient, job: TestJob) -> None:
    engine = _engine_os(client)
    if engine != job.os:
        raise Unreachable(
            f"{job.image} is a {job.os} image, and the engine runs {engine} containers",
            where=client.api.base_url,
            mend=f"Set the URL of an engine that runs {job.os} containers in the settings.",
        )


def _create_network(client: DockerClient, job: TestJob) -> None:
    if job.os == "windows":
        client.networks.create(job.name, driver="nat", labels=_labels(job))
        return
    # A new network does not inherit the MTU of the default one, and packets larger than the machine's
    # own network carries vanish without a word.
    default = client.networks.get("bridge").attrs["Options"] or {}
    options = {_MTU: default[_MTU]} if _MTU in default else {}
    client.networks.create(job.name, driver="bridge", options=options, labels=_labels(job))


def _not_started(error: APIError) -> str:
    """Why the image is to blame that a container does not start; empty when it is not."""
    message = engine_message(error)
    return missing_program(message) or (
        message if re.search(r"OCI runtime create failed|hcs::|container_linux", message) else ""
    )


def _of(node: str, reason: str, launch: Launch) -> str:
    return f"{node}: {reason}" if len(launch.nodes) > 1 else reason


def _state(container: Container) -> Mapping[str, Any] | None:
    """What the engine knows of a container; None when it is removed or about to be."""
    try:
        container.reload()
    except NotFound:
        return None
    state: Mapping[str, Any] = container.attrs["State"]
    return None if state["Status"] in ("removing", "dead") else state


def _read_file(container: Container, path: str) -> bytes:
    """A file of a container that has ended; empty when there is none."""
    try:
        stream, _ = container.get_archive(path)
    except NotFound:
        return b""
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member and member.isfile() else None
        return file.read() if file else b""


def _stop(containers: Mapping[str, Container]) -> None:
    for container in containers.values():
        try:
            container.kill()
        except APIError as error:
            # It has ended meanwhile, or was removed.
            if error.status_code not in (404, 409):
                raise


def _drain(watch: Watch, log: Callable[[str], None]) -> None:
    """Pass on what the containers still had to say."""
    until = time.monotonic() + _LAST_WORDS_SECONDS
    while (event := watch.next(until - time.monotonic())) is not None:
        if isinstance(event, Line):
            log(f"{event.node}: {event.text}")


@contextmanager
def _nothing_left(client: DockerClient, job: TestJob) -> Iterator[None]:
    """Remove everything of the job at the end, however it ends; what ends it stays what the caller sees."""
    try:
        yield
    except BaseException as error:
        try:
            leftovers.remove(client, leftovers.JOB, job.name)
        except (FactoryError, *ENGINE_ERRORS) as leftover:
            error.add_note(f"Not everything of the job {job.name} could be removed: {leftover}")
        raise
    leftovers.remove(client, leftovers.JOB, job.name)
