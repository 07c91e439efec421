"""Several jobs from submission to end: submitted at once, watched by one poller, canceled together after a failure.

There is no thread per job. A few threads submit, because a submission is half a dozen requests one after the other;
then one request returns the state of all jobs of an image. Cancellation verifies that the jobs have ended.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aml_images_dagster.errors import BadInput, FactoryError, Unreachable
from aml_images_dagster.testing.azure_ml.command import build_key, command_job, image_key
from aml_images_dagster.testing.azure_ml.job_state import ENDS, Evaluation, JobState, Timeouts, job_result
from aml_images_dagster.testing.azure_ml.workspace import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from types import TracebackType

    from aml_images_dagster.testing.azure_ml.workspace import SeenJob, Workspace
    from aml_images_dagster.testing.interface import JobResult, TestJob

_OVERLOOKED = 3
"""How often in a row a job may be missing in the list before it is asked for by its name."""
_FIRST_LOOK_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass
class _Submitted:
    job: TestJob
    state: JobState
    url: str
    overlooked: int = 0


class Batch:
    """Jobs that are run together.

    Args:
        workspace: Where.
        jobs: What to run.
        compute: For jobs that name none.
        timeouts: The time-outs.
        log: Receives a line for each new status.
    """

    def __init__(
        self,
        workspace: Workspace,
        jobs: Sequence[TestJob],
        compute: str,
        timeouts: Timeouts,
        log: Callable[[str], None],
    ) -> None:
        self._workspace = workspace
        self._jobs = jobs
        self._compute = compute
        self._timeouts = timeouts
        self._log = log
        self._submissions: dict[Future[SeenJob], TestJob] = {}
        self._submitted: dict[str, _Submitted] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, "azure ml")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The service continues a request whose sender is gone: what is on its way is waited for, so that the job
        # that it makes can be found and ended.
        self._pool.shutdown(wait=True, cancel_futures=True)
        unknown = [job for submission, job in self._submissions.items() if not submission.cancelled()]
        ours = [*unknown, *(each.job for each in self._submitted.values())]
        try:
            end_jobs(self._workspace, {job.name: build_key(job.build) for job in ours}, self._timeouts.cancel_seconds)
        except FactoryError as left:
            if error is None or isinstance(error, GeneratorExit):
                raise
            error.add_note(str(left))

    def results(self) -> Generator[JobResult, None, None]:
        """Submit the jobs and follow them; results in the order in which they end.

        Raises:
            BadInput: A job is refused.
            Unreachable: The service does not answer, or refuses the request.
        """
        self._submissions = {self._pool.submit(self._submit, job): job for job in self._jobs}
        away_since: float | None = None  # not since the last answer: the caller may have taken its time with a result
        while self._submissions or self._submitted:
            self._pause()
            asked = time.monotonic()
            try:
                self._look()
                away_since = None
            except Unreachable as error:
                away_since = asked if away_since is None else away_since
                if time.monotonic() - away_since > self._timeouts.away_seconds:
                    raise
                self._log(f"{error.what}; trying again")
            yield from self._ended()

    def _submit(self, job: TestJob) -> SeenJob:
        compute = job.compute or self._compute
        if not compute:
            raise BadInput(
                f"no compute is named for the tests of {job.image}",
                where="azure.compute",
                hint='Set it, or write "compute" into the tests.json of the image.',
            )
        with tempfile.TemporaryDirectory(dir=job.code.parent) as folder:
            environment = self._workspace.environment(job.reference, job.os)
            seen = self._workspace.submit(command_job(job, environment, compute, Path(folder)))
        if seen.tags.get("image") != job.image or seen.tags.get("build") != job.build:
            raise BadInput(
                f"a job {job.name} exists that another program submitted",
                where=f"Azure ML workspace {self._workspace.name}",
                hint="Start a new build: its jobs have other names.",
            )
        return seen

    def _pause(self) -> None:
        """Wait until it is time to look again, and take in what is submitted meanwhile."""
        until = time.monotonic() + self._timeouts.poll_seconds
        while (left := until - time.monotonic()) > 0:
            if not self._submissions:
                time.sleep(left)
                return
            done, _ = wait(self._submissions, timeout=left, return_when=FIRST_COMPLETED)
            for submission in done:
                seen = submission.result()
                job = self._submissions.pop(submission)
                state = JobState(job.timeout_seconds, self._timeouts, time.monotonic())
                self._submitted[job.name] = _Submitted(job, state, seen.url)
                self._log(f"{job.scenario.name}: submitted as {job.name} {seen.url}".rstrip())

    def _look(self) -> None:
        """Read the status of all jobs, and cancel those that no caller waits for any more."""
        keys = {image_key(each.job.build, each.job.image) for each in self._submitted.values()}
        seen = {job.name: job for key in sorted(keys) for job in self._workspace.tagged(key)}
        for name, each in self._submitted.items():
            each.overlooked = 0 if name in seen else each.overlooked + 1
            if each.overlooked >= _OVERLOOKED:
                found = self._workspace.find(name)
                status = found.status if found else "Canceled"  # deleted, by whomever
            elif name in seen:
                status = seen[name].status
            else:
                continue
            now = time.monotonic()
            if each.state.see(status, now):
                self._log(f"{each.job.scenario.name}: {status}")
            if each.state.give_up(now):
                self._workspace.cancel(name)

    def _ended(self) -> Generator[JobResult, None, None]:
        now = time.monotonic()
        over = {
            name: evaluation for name, each in self._submitted.items() if (evaluation := each.state.evaluation(now))
        }
        results = list(self._pool.map(lambda name: self._result(name, over[name], now), over))
        for result in results:
            # What has ended but is not reported yet is not lost if the caller wants no more.
            del self._submitted[result.job]
            yield result

    def _result(self, name: str, evaluation: Evaluation, now: float) -> JobResult:
        each = self._submitted[name]
        return job_result(self._workspace, each.job, evaluation, each.url, each.state.running_seconds(now))


def end_jobs(workspace: Workspace, keys: Mapping[str, str], seconds: float) -> None:
    """Cancel jobs and wait until none of them runs any more.

    Jobs that have ended, or never were, are left alone, and so is one of another program that has the same name.

    Args:
        workspace: Where they are.
        keys: Their names, each with the key of a tag that the job has.
        seconds: Longest time to wait after they are canceled; a job can stay in CancelRequested for hours.

    Raises:
        Unreachable: Some of them have not ended in time, or the service does not answer.
    """
    until: float | None = None
    pause = _FIRST_LOOK_SECONDS
    asked: set[str] = set()
    with ThreadPoolExecutor(AT_ONCE, "end jobs") as pool:
        left = _running(workspace, keys, pool)
        while left:
            # One that was Finalizing refuses, and one in CancelRequested was canceled by another process.
            news = [name for name, status in left.items() if name not in asked and status != "CancelRequested"]
            list(pool.map(workspace.cancel, news))
            asked.update(news)
            until = time.monotonic() + seconds if until is None else until  # to ask for many takes its time, too
            if time.monotonic() > until:
                listed = ", ".join(f"{name} ({status})" for name, status in sorted(left.items()))
                raise Unreachable(
                    f"canceled, but not ended within {seconds:g} s: {listed}",
                    where=f"Azure ML workspace {workspace.name}",
                    hint="The cleanup is repeated until they have ended; see them in the Studio.",
                )
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS, max(until - time.monotonic(), 0) + 0.01)
            left = _running(workspace, {name: keys[name] for name in left}, pool)


def _running(workspace: Workspace, keys: Mapping[str, str], pool: ThreadPoolExecutor) -> dict[str, str]:
    """The status of those jobs that have not ended."""
    found = pool.map(workspace.find, keys)
    return {job.name: job.status for job in found if job and job.status not in ENDS and keys[job.name] in job.tags}
