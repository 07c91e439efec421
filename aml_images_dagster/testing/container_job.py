"""One job on a Docker engine: its network and containers are made, watched, and ended.

Removing them is left to the caller. This module imports docker-py; import it only where an engine is used.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import LogConfig

from aml_images_dagster.bounded import TooLong
from aml_images_dagster.testing import leftovers
from aml_images_dagster.testing.docker_connection import engine_message
from aml_images_dagster.testing.failure_reason import failure_reason, missing_program, telling_line
from aml_images_dagster.testing.interface import JobResult, JobStatus, NodeLog, TestJob
from aml_images_dagster.testing.launch import Launch, Node, inside, job_environment
from aml_images_dagster.testing.watch import Ended, Line, Lost, Watch, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker import DockerClient
    from docker.models.containers import Container

    from aml_images_dagster.testing.launch import Limits

_LONGEST_REPORT = 16 * 2**20
_KILLED = 137
"""The exit code of a process that SIGKILL has ended."""
_OOM_EVENT_SECONDS = 1.0
"""The engine hears that memory was short by an event of its own, which may come after the end of the container."""
_LAST_WORDS_SECONDS = 5
"""How long a killed container's output is waited for."""
_LAST_LINES = 100
_TOGETHER_SECONDS = 0.1
"""An engine reads standard output and standard error from a pipe each: of lines that were printed within milliseconds
it does not know which came first."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: JobStatus
    reason: str = ""


_CANCELED = _Outcome("canceled", "canceled: its containers were removed by another process")


@dataclass(frozen=True, slots=True)
class ContainerJob:
    """A job that can be run once.

    Attributes:
        client: The engine.
        job: What to run.
        launch: How.
        image: The engine's id of the image.
        limits: What one container may use.
        mtu: Largest packet of the job's network, in bytes; None leaves it to the engine.
        log: Receives the lines of all nodes.
        read_file: See `DockerEngine.read_file`.
    """

    client: DockerClient
    job: TestJob
    launch: Launch
    image: str
    limits: Limits
    mtu: int | None
    log: Callable[[str], None]
    read_file: Callable[[str, str, int], bytes]

    def run(self) -> JobResult:
        """Run the job to its end; its containers are left behind, ended or not."""
        started = time.monotonic()
        logs: tuple[NodeLog, ...] = ()
        try:
            containers = self._create_uninterrupted()
            outcome = self._start(containers)
            if outcome is None:
                with Watch(containers, self.limits.log_characters) as watch:
                    # From here on the job runs: what the engine needed to make the containers is not the job's.
                    outcome = self._follow(watch, containers, time.monotonic() + self.job.timeout_seconds)
                    _kill(containers)
                    self._drain(watch)
                    logs = tuple(NodeLog(node, output.text()) for node, output in watch.outputs.items())
        except ImageNotFound:
            raise
        except NotFound:
            # A network or a container that was there a moment ago.
            outcome = _CANCELED
        return JobResult(self.job.name, outcome.status, time.monotonic() - started, outcome.reason, logs)

    def _create_uninterrupted(self) -> dict[str, Container]:
        """`_create` in a thread that no signal interrupts.

        An engine continues a request whose sender is gone: what it makes then would come too late to be
        found and removed.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(max_workers=1) as thread:
            created = thread.submit(self._create, stop)
            try:
                return created.result()
            finally:
                # Leaving the block waits for the request that is on its way.
                stop.set()

    def _create(self, stop: threading.Event) -> dict[str, Container]:
        """The network, the shared folder and the containers with their files, by the node's name."""
        labels = _labels(self.job)
        windows = self.job.os == "windows"
        # A network does not inherit the MTU of the default one, and packets that are too large for the
        # machine's own network vanish without a word.
        options = {"com.docker.network.driver.mtu": str(self.mtu)} if self.mtu and not windows else {}
        driver = "nat" if windows else "bridge"
        self.client.networks.create(self.job.name, driver=driver, options=options, labels=labels)
        if self.launch.shared_folder:
            self.client.volumes.create(name=self.job.name, labels=labels)
        containers = {}
        for node in self.launch.nodes:
            if stop.is_set():
                break
            alias = self.client.api.create_endpoint_config(aliases=[node.name])
            container = self.client.containers.create(
                self.image,
                networking_config={self.job.name: alias},
                **container_options(self.job, self.launch, node, self.limits),
            )
            container.put_archive("C:\\" if windows else "/", self.launch.files)
            containers[node.name] = container
        return containers

    def _start(self, containers: Mapping[str, Container]) -> _Outcome | None:
        """Start all nodes; an outcome when the image is to blame that one cannot be started."""
        for node, container in containers.items():
            try:
                container.start()
            except APIError as error:
                reason = _not_started(engine_message(error))
                if not reason:
                    raise
                return _Outcome("failed", self._on(node, reason))
        return None

    def _follow(self, watch: Watch, containers: Mapping[str, Container], deadline: float) -> _Outcome:
        """Wait for the end of the job: the leader's, every node's, the first failure or the deadline."""
        running = set(containers)
        while True:
            left = deadline - time.monotonic()
            match watch.next(left) if left > 0 else None:
                case None:
                    return self._timed_out(watch)
                case Line(node, text):
                    self.log(f"{node}: {text}")
                case Lost(_, error):
                    raise error
                case Ended(node, exit_code):
                    running.discard(node)
                    if exit_code != 0:
                        return self._failure(node, exit_code, containers[node], watch)
                    if node == self.launch.leader or not running:
                        return _Outcome("passed")

    def _timed_out(self, watch: Watch) -> _Outcome:
        last = telling_line(watch.outputs[self.launch.nodes[0].name].text())
        said = f"; its last words: {last}" if last else ""
        return _Outcome("timed out", f"timed out after {self.job.timeout_seconds:g} s{said}")

    def _failure(self, node: str, exit_code: int | None, container: Container, watch: Watch) -> _Outcome:
        state = _state(container)
        until = time.monotonic() + _OOM_EVENT_SECONDS
        while exit_code == _KILLED and state and not state["OOMKilled"] and time.monotonic() < until:
            time.sleep(0.1)
            state = _state(container)
        if exit_code is None or state is None:
            return _CANCELED
        if state["OOMKilled"]:
            limit = self.limits.memory_bytes / 2**30
            return _Outcome("failed", self._on(node, f"out of memory: the limit is {limit:.3g} GiB"))
        reason = ""
        if self.launch.explain:
            reason = self.launch.explain(exit_code, self._report(container))
        reason = reason or failure_reason(exit_code, watch.outputs[node].text(), _last_errors(container))
        return _Outcome("failed", self._on(node, reason))

    def _report(self, container: Container) -> bytes:
        """The report that a scenario has left; empty when there is none that can be read."""
        try:
            return self.read_file(str(container.id), self.launch.report, _LONGEST_REPORT)
        except TooLong as fault:
            self.log(f"the report {self.launch.report} has {fault} and is not read")
            return b""

    def _on(self, node: str, reason: str) -> str:
        return f"{node}: {reason}" if len(self.launch.nodes) > 1 else reason

    def _drain(self, watch: Watch) -> None:
        """Pass on what the containers still had to say."""
        until = time.monotonic() + _LAST_WORDS_SECONDS
        while (left := until - time.monotonic()) > 0 and (event := watch.next(left)) is not None:
            if isinstance(event, Line):
                self.log(f"{event.node}: {event.text}")


def container_options(job: TestJob, launch: Launch, node: Node, limits: Limits) -> dict[str, Any]:
    """The options of a container, as arguments of docker-py's `containers.create`."""
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
        # The runner reads along, so the engine has to keep little on its disk.
        "log_config": LogConfig(type="json-file", config={"max-size": "20m", "max-file": "2"}),
    }
    if job.platform:
        options["platform"] = job.platform
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


def _labels(job: TestJob) -> dict[str, str]:
    return {
        leftovers.BUILD: job.build,
        leftovers.IMAGE: job.image,
        leftovers.SCENARIO: job.scenario.name,
        leftovers.JOB: job.name,
    }


def _not_started(message: str) -> str:
    """Why the image is to blame that a container does not start; empty when it is not."""
    return missing_program(message) or (
        message if re.search(r"OCI runtime create failed|hcs::|container_linux", message) else ""
    )


def _state(container: Container) -> Mapping[str, Any] | None:
    """What the engine knows of a container; None when it is removed or about to be."""
    try:
        container.reload()
    except NotFound:
        return None
    state: Mapping[str, Any] = container.attrs["State"]
    return None if state["Status"] in ("removing", "dead") else state


def _last_errors(container: Container) -> str:
    """The end of standard error; empty if standard output went on after it, or the engine does not say when."""
    until, _ = _last_lines(container, "stdout")
    ended, errors = _last_lines(container, "stderr")
    if not errors or until - ended > _TOGETHER_SECONDS:
        return ""
    return "\n".join(errors)


def _last_lines(container: Container, stream: Literal["stdout", "stderr"]) -> tuple[float, list[str]]:
    """When the last line of a stream was printed, in seconds since 1970, 0 for none; and the last lines."""
    told = container.logs(stdout=stream == "stdout", stderr=stream == "stderr", tail=_LAST_LINES, timestamps=True)
    ended, found = 0.0, list[str]()
    # A progress bar has no line ends, but carriage returns.
    for line in told.split(b"\n"):
        time_, _, text = line.partition(b" ")
        with contextlib.suppress(ValueError):  # what is no line of its own
            ended = datetime.fromisoformat(time_.decode()).timestamp()
            found += lines([text])
    return ended, found


def _kill(containers: Mapping[str, Container]) -> None:
    for container in containers.values():
        try:
            container.kill()
        except APIError as error:
            # It has ended meanwhile, or was removed.
            if error.status_code not in (404, 409):
                raise
