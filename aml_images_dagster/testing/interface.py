"""The interface of test runners. Implementations: `containers.py` and `azure_ml/runner.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence
    from pathlib import Path

    from aml_images_dagster.catalog.tests_file import Scenario
    from aml_images_dagster.engine.interface import OperatingSystem

JobStatus = Literal["passed", "failed", "canceled", "timed out"]


@dataclass(frozen=True, slots=True)
class TestJob:
    """One scenario to run in one staged image.

    Attributes:
        name: The job's name: a function of build, image, scenario and attempt, so that it can be
            found and canceled without a message from this one.
        build: The build's number; everything that the job creates is labelled with it.
        image: `<family>/<image name>`.
        reference: The staged image by digest; the job runs what the registry serves, not what the engine has.
        os: Operating system of the image.
        scenario: What to run.
        code: A folder that holds exactly the files that the scenario names, laid out as below `base_images/tests`
            (for a pytest scenario: as in the repository).
        timeout_seconds: The job may take this long, without pulling the image.
        compute: Where to run, if the place has several; empty takes its default.
        commit: The commit that is built; empty outside of git.
        platform: Platform of the reference, if its image has several, e.g. `linux/arm64`; else empty.
        keep_failed: Keep the containers of a job that does not pass, for inspection.
    """

    __test__ = False  # not a pytest class

    name: str
    build: str
    image: str
    reference: str
    os: OperatingSystem
    scenario: Scenario
    code: Path
    timeout_seconds: float
    compute: str = ""
    commit: str = ""
    platform: str = ""
    keep_failed: bool = False


@dataclass(frozen=True, slots=True)
class NodeLog:
    """What one node of a job printed.

    Attributes:
        node: `node0`, `node1`, …
        text: Standard output and error, merged.
    """

    node: str
    text: str


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended.

    Attributes:
        job: The job's name.
        status: How it ended.
        seconds: Wall time of the job in seconds.
        reason: For anything but `passed`: why, in one line; else empty.
        logs: One per node, in order.
        url: Page of the job; empty for local jobs.
        sdk: Name and version of what submitted the job; empty for local jobs.
        warning: A warning that does not change the status of the job; else empty.
    """

    job: str
    status: JobStatus
    seconds: float
    reason: str = ""
    logs: tuple[NodeLog, ...] = ()
    url: str = ""
    sdk: str = ""
    warning: str = ""


class TestRunner(Protocol):
    """A place that runs scenarios as training jobs."""

    kind: str
    """What release notes call it, e.g. `local containers`."""

    def load(self) -> None:
        """Import what running a job takes, in a process whose forks will run jobs."""

    def runs(self, platform: str) -> bool:
        """Whether jobs run on a platform here, e.g. `linux/arm64`; else images for it are not tested on it.

        Raises:
            Unreachable: The place does not answer.
        """

    def run(self, job: TestJob, log: Callable[[str], None]) -> JobResult:
        """Run a job to its end and remove everything that it created, whatever happens, unless it is to be kept.

        An exception raised into the caller (cancellation) also ends the job before it travels on.

        Raises:
            Unreachable: The place does not answer, or the image cannot be pulled there.
        """

    def run_all(self, jobs: Sequence[TestJob], log: Callable[[str], None]) -> Generator[JobResult, None, None]:
        """Run several jobs, at once where the place can; results come in the order in which the jobs end.

        Closing the iterator (`contextlib.closing`) ends the jobs that have not ended.

        Raises:
            Unreachable: See `run`.
        """

    def check(self, computes: Collection[str], platforms: Collection[str] = ()) -> str:
        """Make sure that jobs can be submitted.

        Args:
            computes: What the jobs name as `compute`.
            platforms: What the jobs name as `platform`.

        Returns:
            Where they would run, in a few words.

        Raises:
            BadInput: A setting is missing, or names what is not there, or a platform cannot be emulated.
            Unreachable: The place does not answer, or refuses the request.
        """

    def cancel(self, build: str) -> list[str]:
        """End every job of a build and remove what it created; the names of what was removed."""

    def live(self, build: str) -> list[str]:
        """The names of everything that a build still has running or lying about there."""
