"""The state of one job: what each status of Azure ML means, how long to wait for the next one, and its result.

The statuses are those of `azure.ai.ml.constants` and of the service's REST reference
(https://learn.microsoft.com/rest/api/azureml/jobs/get#jobstatus). Only three of them are final; a job can also stay in
one of the others for hours, so nothing is waited for without a bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.tests_file import PytestScenario
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.testing import pytest_scenario
from aml_images_dagster.testing.failure_reason import TRACEBACK, telling_line
from aml_images_dagster.testing.interface import JobResult, NodeLog
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.testing.azure_ml.workspace import RunDetails, Workspace
    from aml_images_dagster.testing.interface import JobStatus, TestJob

ENDS: Mapping[str, JobStatus] = {"Completed": "passed", "Failed": "failed", "Canceled": "canceled"}
"""The statuses after which nothing of a job runs any more."""

_BEFORE_RUNNING = {"NotStarted", "Starting", "Provisioning", "Preparing", "Queued", "Scheduled"}
_RUNNING = {"Running", "Finalizing"}
_CANCELLING = "CancelRequested"
_MOST_STARTS = 10
"""A job whose nodes are taken away begins again; one that never ends must not be waited for without end."""
_LOG = re.compile(r"user_logs/std_log(?:_process_(?P<process>\d+))?\.txt")
"""What the service's runtime writes: one file, or one for each process of a distributed job."""
_TOLD = 3
_MOST_LOGS = 32
_LONGEST_LOG = 1_000_000


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time-outs of jobs.

    Attributes:
        poll_seconds: Time between two polls of the jobs.
        queue_seconds: A job may take this long until it runs: the cluster scales up and pulls the image meanwhile. The
            wait begins again for a job that ran and whose nodes were taken away.
        silent_seconds: A job may say this long that it does not respond, is paused or is unknown; it may recover.
        cancel_seconds: A job may take this long to end after it was canceled.
        away_seconds: The service may be unavailable this long.
    """

    poll_seconds: float = 10
    queue_seconds: float = 3600
    silent_seconds: float = 600
    cancel_seconds: float = 120
    away_seconds: float = 300


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of a job's evaluation.

    Attributes:
        status: How it ended.
        reason: Why, if that is known already; else empty.
    """

    status: JobStatus
    reason: str = ""


class JobState:
    """One job from its submission to its end.

    Args:
        timeout_seconds: How long the job may run, from its last start on: one whose nodes were taken away starts again.
        timeouts: How long to wait for all else.
        now: The time of the submission, as all times here in seconds of a clock that never goes back.
    """

    def __init__(self, timeout_seconds: float, timeouts: Timeouts, now: float) -> None:
        self.status = ""
        self._timeout_seconds = timeout_seconds
        self._timeouts = timeouts
        self._waiting_since = now
        self._starts = 0
        self._silent_since = now
        self._canceling_since = now
        self._running_since: float | None = None
        self._given_up: Evaluation | None = None
        self._given_up_at = now

    def see(self, status: str, now: float) -> bool:
        """Take in what the service says; return whether that is new."""
        if status == self.status:
            return False
        before, self.status = self.status, status
        if status in _RUNNING and self._running_since is None:
            self._running_since = now
            self._starts += 1
        if status in _BEFORE_RUNNING and self._running_since is not None:  # a node of low priority was taken away
            self._running_since = None
            self._waiting_since = now
        if _is_silent(status) and not _is_silent(before):
            self._silent_since = now
        if status == _CANCELLING:
            self._canceling_since = now
        return True

    def give_up(self, now: float) -> bool:
        """Whether the job has to be canceled now. True until the service says that it is being canceled."""
        if self.status in ENDS or self.status == _CANCELLING:
            return False
        if self._given_up is None:
            self._given_up, self._given_up_at = self._overdue(now), now
        return self._given_up is not None

    def _overdue(self, now: float) -> Evaluation | None:
        timeouts = self._timeouts
        if self.status in _BEFORE_RUNNING or not self.status:
            again = " again" if self._starts else ""
            if self._starts >= _MOST_STARTS:
                return Evaluation("failed", f"its nodes were taken away {_MOST_STARTS} times")
            if now - self._waiting_since > timeouts.queue_seconds:
                within = _told(timeouts.queue_seconds)
                return Evaluation("timed out", f"did not run{again} within {within}: {self.status}")
        elif _is_silent(self.status) and now - self._silent_since > timeouts.silent_seconds:
            return Evaluation("failed", f"{self.status} for {_told(timeouts.silent_seconds)}")
        if self._running_since is not None and now - self._running_since > self._timeout_seconds:
            return Evaluation("timed out", f"timed out after {_told(self._timeout_seconds)}")
        return None

    def evaluation(self, now: float) -> Evaluation | None:
        """What to say of the job; None as long as its end is waited for."""
        if self.status in ENDS:
            return self._given_up or Evaluation(ENDS[self.status])
        waits_since = self._given_up_at if self._given_up else self._canceling_since
        if not self._given_up and self.status != _CANCELLING:
            return None
        if now - waits_since <= self._timeouts.cancel_seconds:
            return None
        still = f"still {self.status} {_told(self._timeouts.cancel_seconds)} after it was canceled"
        if self._given_up:
            return Evaluation(self._given_up.status, f"{self._given_up.reason}; {still}")
        return Evaluation("canceled", still)

    def running_seconds(self, now: float) -> float:
        """How long the job has been running since its last start, as far as was seen."""
        return 0.0 if self._running_since is None else now - self._running_since


def _is_silent(status: str) -> bool:
    """Whether a status says neither where the job is nor how it ended."""
    return bool(status) and status not in {*_BEFORE_RUNNING, *_RUNNING, *ENDS, _CANCELLING}


def _told(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"


def job_result(workspace: Workspace, job: TestJob, evaluation: Evaluation, url: str, seen_seconds: float) -> JobResult:
    """The result of a job.

    Missing details are left out: a job that has ended is not lost because its history cannot be read.

    Args:
        workspace: Where it ran.
        job: What ran.
        evaluation: How it ended.
        url: Its page in the Studio.
        seen_seconds: How long it was seen running, in case that the service does not say.
    """
    details: RunDetails | None = None
    logs: tuple[NodeLog, ...] = ()
    unread = ""
    try:
        details = workspace.details(job.name)
        logs = () if evaluation.status == "passed" else _node_logs(workspace, job, details.logs)
    except FactoryError as error:
        unread = f"its history cannot be read: {error.what}"
    reason = ""
    if evaluation.status != "passed":
        reason = evaluation.reason or _reason(job, details, logs) or unread or "the service does not say why"
    return JobResult(job.name, evaluation.status, _seconds(details, seen_seconds), reason, logs, url)


def _seconds(details: RunDetails | None, seen: float) -> float:
    if details and details.started and details.ended:
        return (details.ended - details.started).total_seconds()
    return seen


def _reason(job: TestJob, details: RunDetails | None, logs: tuple[NodeLog, ...]) -> str:
    """What the job itself said is worth more than that its exit code was not 0."""
    if isinstance(job.scenario, PytestScenario) and logs:
        tests = pytest_scenario.explain_output(logs[0].text)
        if tests:
            return tests
    # The service does not say which node failed first: one with a traceback has, or it may be any.
    told = [log for log in logs if TRACEBACK in log.text][:1] or list(logs[:_TOLD])
    lines = [(log.node, telling_line(log.text)) for log in told]
    said = "; ".join(f"{node}: {line}" if len(logs) > 1 else line for node, line in lines if line)
    return said or (details.error if details else "")


def _node_logs(workspace: Workspace, job: TestJob, files: Mapping[str, str]) -> tuple[NodeLog, ...]:
    """What each node printed."""
    per_node = 1 if isinstance(job.scenario, PytestScenario) else job.scenario.processes_per_node
    found = sorted((int(match["process"] or 0), path) for path in files if (match := _LOG.fullmatch(path)))
    texts: dict[str, list[str]] = {}
    for process, path in found[:_MOST_LOGS]:
        text = printable(workspace.read_log(files[path], _LONGEST_LOG))
        head = f"[process {process}]\n" if per_node > 1 else ""
        texts.setdefault(f"node{process // per_node}", []).append(head + text)
    return tuple(NodeLog(node, "".join(parts)) for node, parts in texts.items())
