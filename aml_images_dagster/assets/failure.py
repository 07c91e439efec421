"""Why a run failed: what its events say of the step that failed first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.builds.records import BuildFailure
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from dagster import DagsterEvent

STOPPED = "stopped"
"""Metadata of the failure of a step that is not to blame: its build had failed elsewhere or was cancelled."""


def first_failure(instance: dg.DagsterInstance, run_id: str) -> BuildFailure | None:
    """The failure that ended a run, or is about to; None when no step and nothing else has failed."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, ascending=True).records
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is not None and not was_stopped(event):
            return _of_step(event)
    ended = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    event = ended[0].event_log_entry.dagster_event if ended else None
    return BuildFailure(step="", message=printable(event.message or "the run has failed")) if event else None


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
