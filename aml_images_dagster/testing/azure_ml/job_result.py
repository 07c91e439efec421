"""The result of a job that has ended: its duration, the reason of a failure, and the logs of its nodes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.tests_file import PytestScenario
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.testing import pytest_scenario
from aml_images_dagster.testing.failure_reason import TRACEBACK, telling_line
from aml_images_dagster.testing.interface import JobResult, NodeLog
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.testing.azure_ml.job_state import Evaluation
    from aml_images_dagster.testing.azure_ml.workspace import RunDetails, Workspace
    from aml_images_dagster.testing.interface import TestJob

_LOG = re.compile(r"user_logs/std_log(?:_process_(?P<process>\d+))?\.txt")
"""What the service's runtime writes: one file, or one for each process of a distributed job."""
_TOLD = 3
_MOST_LOGS = 32
_LONGEST_LOG = 1_000_000


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
