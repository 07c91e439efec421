"""What became of a run, also of one whose process was killed where Dagster could not see it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.failure import first_failure

if TYPE_CHECKING:
    from aml_images_dagster.build.janitor import RunState
    from aml_images_dagster.build.records import BuildFailure

PROCESS_TAG = "aml-images/process"
"""`<host>:<start of the machine>:<process id>:<start of the process>` that executes a run."""


def this_process() -> str:
    """The value of `PROCESS_TAG` for a run of this process."""
    return _named(os.getpid())


def name_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Let a step write down the process of its run, unless somebody has.

    Called in a step's process, whose parent is the process of the run or a server that ends with it. Dagster itself
    loses sight of a run when the server that launched it is killed together with it.
    """
    if PROCESS_TAG not in run.tags:
        instance.add_run_tags(run.run_id, {PROCESS_TAG: _named(os.getppid())})


def _named(pid: int) -> str:
    return f"{socket.gethostname()}:{_boot()}:{pid}:{_started(pid)}"


class InstanceRuns:
    """The runs of a Dagster instance; see `Runs`."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def state(self, run_id: str) -> RunState:
        """See `Runs.state`. A run whose process is gone is reported as failed to the instance, too."""
        run = self._instance.get_run_by_id(run_id)
        if run is None:
            return "unknown"
        if not run.is_finished and _process_is_dead(run.tags.get(PROCESS_TAG, "")):
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


def _process_is_dead(process: str) -> bool:
    """Whether a process as `PROCESS_TAG` names it has ended; False where this machine cannot tell."""
    host, _, rest = process.partition(":")
    boot, _, rest = rest.partition(":")
    pid, _, started = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    if boot != _boot():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # Its number may have gone to another process since.
    return _started(int(pid)) != started


def _boot() -> str:
    """Which start of this machine it is; empty where nothing tells.

    Source: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the clock ticks of this machine; empty where it is dead or nothing tells.

    A process that was killed and that its parent does not wait for, as in containers without an init, stays in the
    table and answers to signals; its state is Z.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        _, _, after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return ""
    state, *fields = after_name.split()
    return "" if state in "ZX" else fields[18]
