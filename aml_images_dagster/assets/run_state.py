"""What became of a run, also of one whose process was killed where Dagster could not see it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.failure import first_failure
from aml_images_dagster.builds.process import is_dead, named

if TYPE_CHECKING:
    from aml_images_dagster.builds.janitor import RunState
    from aml_images_dagster.builds.records import BuildFailure

PROCESS_TAG = "aml-images/process"
"""The name of the process that executes a run; see `builds.process`."""


def name_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Let a step write down the process of its run, unless somebody has.

    Called in a step's process, whose parent is the process of the run or a server that ends with it. Dagster itself
    loses sight of a run when the server that launched it is killed together with it.
    """
    if PROCESS_TAG not in run.tags:
        instance.add_run_tags(run.run_id, {PROCESS_TAG: named(os.getppid())})


class InstanceRuns:
    """The runs of a Dagster instance; see `Runs`."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def state(self, run_id: str) -> RunState:
        """See `Runs.state`. A run whose process is gone is reported as failed to the instance, too."""
        run = self._instance.get_run_by_id(run_id)
        if run is None:
            return "unknown"
        if not run.is_finished and is_dead(run.tags.get(PROCESS_TAG, "")):
            # Nobody else can tell: the daemon watches only the runs that it has launched.
            self._instance.report_run_failed(run, message="The process that executed the run is gone.")
            self._instance.event_log_storage.free_concurrency_slots_for_run(run_id)
            return "failed"
        match run.status:
            case dg.DagsterRunStatus.SUCCESS:
                return "succeeded"
            case dg.DagsterRunStatus.FAILURE:
                return "failed"
            case dg.DagsterRunStatus.CANCELED:
                return "canceled"
        return "alive"

    def failure(self, run_id: str) -> BuildFailure | None:
        """See `Runs.failure`."""
        return first_failure(self._instance, run_id)
