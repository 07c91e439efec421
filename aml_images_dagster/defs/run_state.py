"""The state of a run and the reason of its failure, also if its process was killed unnoticed by Dagster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.process import is_dead, is_seen_from_here, this_process
from aml_images_dagster.builds.records import BuildFailure
from aml_images_dagster.defs.keys import BUILD_JOB
from aml_images_dagster.defs.pools import BUILD_POOL, TEST_POOL, WINDOWS_BUILD_POOL
from aml_images_dagster.instance.heartbeat import is_silent
from aml_images_dagster.text import counted, printable

if TYPE_CHECKING:
    from dagster import DagsterEvent

    from aml_images_dagster.builds.housekeeping.janitor import RunState

HIDDEN = ".dagster/aml-images"
"""Start of the names of tags for processes: Dagster's pages show no tag that starts with `.dagster/`."""
PROCESS_TAG = f"{HIDDEN}/process"
"""The name of the process that executes a run, see `builds.process`, and the run's id; see `process_tag`."""
_PARTS = 6
"""Of the name of a process."""
STOPPED = "stopped"
"""Metadata of the failure of a step that is not to blame: its build had failed elsewhere or was canceled."""
UNFINISHED = [
    status
    for status in dg.DagsterRunStatus
    if status not in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
]
"""The statuses of runs that have not ended."""
_START = timedelta(seconds=60)
"""How long a run may take from the queue to its step; longer, and it may be lost."""


def name_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Record that this process executes a run.

    Dagster itself does not notice the end of a run when the server that launched it is killed together with it.
    """
    instance.add_run_tags(run.run_id, process_tag(run, this_process()))


def process_tag(run: dg.DagsterRun, process: str) -> dict[str, str]:
    """The tag that names the process of a run, and the run: Dagster copies tags to runs that execute it again."""
    return {PROCESS_TAG: f"{process}:{run.run_id}"}


def process_of(run: dg.DagsterRun) -> str:
    """The process that executes a run; empty before it has said so."""
    tag = run.tags.get(PROCESS_TAG, "")
    of_run = tag.split(":")[_PARTS:]
    return tag if not of_run or of_run == [run.run_id] else ""


class InstanceRuns:
    """The runs of a Dagster instance; see `Runs`.

    Args:
        instance: The instance.
        patience_seconds: After which a run whose process cannot be seen from here, and that writes no heartbeat, is
            dead.
    """

    def __init__(self, instance: dg.DagsterInstance, patience_seconds: float) -> None:
        self._instance = instance
        self._patience = patience_seconds

    def state(self, run_id: str) -> RunState:
        """See `Runs.state`."""
        run = self._instance.get_run_by_id(run_id)
        if run is not None and self._is_dead(run):
            run = self._instance.get_run_by_id(run_id)  # it may have ended well meanwhile, and its process with it
            if run is not None and not run.is_finished:
                return "failed"
        if run is None:
            return "unknown"
        match run.status:
            case dg.DagsterRunStatus.SUCCESS:
                return "succeeded"
            case dg.DagsterRunStatus.FAILURE:
                return "failed"
            case dg.DagsterRunStatus.CANCELED:
                return "canceled"
        return "alive"

    def failure(self, run_id: str) -> BuildFailure | None:
        """See `Runs.failure`. A run whose process is gone is reported as failed to the instance."""
        run = self._instance.get_run_by_id(run_id)
        if run is not None and self._is_dead(run):
            self._end(run_id)
        return first_failure(self._instance, run_id)

    def is_under_way(self, job: str) -> bool:
        """Whether a run of a job is queued, starting, or running in a process that is not dead."""
        lately = datetime.now(UTC) - _START
        for record in self._instance.get_run_records(dg.RunsFilter(job_name=job, statuses=UNFINISHED)):
            run = record.dagster_run
            if run.status is dg.DagsterRunStatus.QUEUED or (
                not self._is_dead(run) if process_of(run) else record.create_timestamp > lately
            ):
                return True
        return False

    def dead(self) -> list[dg.DagsterRun]:
        """Runs of any job that have not ended although the process that executed them is dead."""
        unfinished = dg.RunsFilter(statuses=[each for each in UNFINISHED if each is not dg.DagsterRunStatus.QUEUED])
        return [run for run in self._instance.get_runs(unfinished) if self._is_dead(run)]

    def end_dead(self) -> None:
        """Report the dead runs as failed to the instance, also those that were not builds or had not begun one."""
        for run in self.dead():
            self._end(run.run_id)

    def _end(self, run_id: str) -> None:
        """Report a run whose process is dead as failed, unless it has ended before.

        Nothing else does: the daemon of Dagster watches only the runs that it has launched.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            self._instance.report_run_failed(run, message="The process that executed the run is gone.")
        self._instance.event_log_storage.free_concurrency_slots_for_run(run_id)

    def _is_dead(self, run: dg.DagsterRun) -> bool:
        process = process_of(run)
        if run.is_finished or is_seen_from_here(process):
            return not run.is_finished and is_dead(process)
        return is_dead(process) or is_silent(self._instance, run.run_id, self._patience)


_STEPS = {BUILD_POOL: "builds", WINDOWS_BUILD_POOL: "Windows builds", TEST_POOL: "tests"}
"""What the steps of a pool are called."""
_IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def waiting(instance: dg.DagsterInstance, run_id: str) -> str:
    """What a build waits for, such as `waiting: 2 of 2 builds run`; empty when it has ended, or a step of it runs.

    It waits in the queue until its run is started, and then for places in the pools, as long as other builds hold them.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return ""
    if run.status is dg.DagsterRunStatus.QUEUED:
        before = instance.get_runs_count(dg.RunsFilter(job_name=BUILD_JOB, statuses=_IN_PROGRESS))
        return f"waiting in the queue: {counted(before, 'build')} in progress"
    found = ""
    for pool, steps in _STEPS.items():
        info = instance.event_log_storage.get_concurrency_info(pool)
        if run_id in info.active_run_ids:
            return ""
        if run_id in info.pending_run_ids and not found:
            found = f"waiting: {info.active_slot_count} of {info.slot_count} {steps} run"
    return found


def first_failure(instance: dg.DagsterInstance, run_id: str) -> BuildFailure | None:
    """The failure that ended a run, or is about to; None when no step and nothing else has failed."""
    step = _first_failed_step(instance, run_id)
    if step is not None:
        return _of_step(step)
    ended = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    event = ended[0].event_log_entry.dagster_event if ended else None
    return BuildFailure(step="", message=printable(event.message or "the run has failed")) if event else None


def first_error(instance: dg.DagsterInstance, run_id: str) -> dict[str, str]:
    """What is wrong, where and a hint, of the failure that ended a run; empty where it does not explain itself."""
    step = _first_failed_step(instance, run_id)
    explained = step.step_failure_data.user_failure_data if step else None
    if explained is None or "what" not in explained.metadata:
        return {}
    found = (explained.metadata.get(name) for name in ("what", "where", "hint"))
    return dict(zip(("what", "where", "hint"), (str(each.value) if each else "" for each in found), strict=True))


def _first_failed_step(instance: dg.DagsterInstance, run_id: str) -> DagsterEvent | None:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, ascending=True).records
    events = (record.event_log_entry.dagster_event for record in records)
    return next((event for event in events if event is not None and not was_stopped(event)), None)


def was_stopped(event: DagsterEvent) -> bool:
    """Whether a step that failed was stopped from outside."""
    data = event.step_failure_data
    if data.user_failure_data is not None:
        return STOPPED in data.user_failure_data.metadata
    error = data.error
    return error is not None and dg.DagsterExecutionInterruptedError.__name__ in (
        error.cls_name,
        error.cause.cls_name if error.cause else "",
    )


def _of_step(event: DagsterEvent) -> BuildFailure:
    step, data = event.step_key or "", event.step_failure_data
    explained = data.user_failure_data
    if explained is not None:
        log = explained.metadata.get("log")
        text = "\n".join(str(log.value).split("\n")[1:-1]) if log else ""  # it is a block of code
        return BuildFailure(step=step, message=explained.description or "", log=text)
    error = data.error
    return BuildFailure(step=step, message=printable(error.cause.to_string() if error and error.cause else str(error)))
