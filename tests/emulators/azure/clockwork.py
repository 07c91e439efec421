"""Jobs that run nothing: they go through their statuses by the clock. For many jobs, and for odd ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.emulators.azure.machine_learning import EmulatedJob


class Clockwork:
    """An executor.

    Args:
        queued_seconds: How long a job waits.
        running_seconds: How long it runs then.

    Attributes:
        fails: Names of scenarios that fail.
        stays: A status that jobs come to and do not leave by themselves; empty for none.
    """

    def __init__(self, queued_seconds: float = 0, running_seconds: float = 0) -> None:
        self.queued_seconds = queued_seconds
        self.running_seconds = running_seconds
        self.fails: set[str] = set()
        self.stays = ""

    def execute(self, job: EmulatedJob) -> tuple[bool, Mapping[str, bytes]]:
        """See `Executor.execute`."""
        self._pass(job, "Queued", self.queued_seconds)
        job.started = datetime.now(UTC)
        self._pass(job, "Running", self.running_seconds)
        if self.stays and not job.stop.is_set():
            job.status = self.stays
            job.stop.wait()
        fails = job.properties["tags"]["scenario"] in self.fails
        log = b"all is well\n" if not fails else b"Traceback (most recent call last):\nValueError: the loss is nan\n"
        return not fails, {"user_logs/std_log.txt": log, "system_logs/lifecycler/lifecycler.log": b"a"}

    def _pass(self, job: EmulatedJob, status: str, seconds: float) -> None:
        if not job.stop.is_set():
            job.status = status
            job.stop.wait(seconds)
