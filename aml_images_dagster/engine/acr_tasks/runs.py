"""Runs of ACR Tasks: scheduled, followed, ended."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from aml_images_dagster.engine.acr_tasks.faults import deadline_fault, run_fault
from aml_images_dagster.engine.acr_tasks.run_log import RunLog
from aml_images_dagster.errors import FactoryError, Unreachable
from aml_images_dagster.identity.faults import TIMEOUTS, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from azure.mgmt.containerregistrytasks import ContainerRegistryTasksMgmtClient
    from azure.mgmt.containerregistrytasks.models import Run, RunProperties, RunRequest

    from aml_images_dagster.engine.interface import LogLine

_ROLE = "Container Registry Tasks Contributor"
_ENDED = ("Succeeded", "Failed", "Canceled", "Error", "Timeout")
_WAITING = ("Queued", "Started")
"""Before an agent runs it. Source: https://learn.microsoft.com/rest/api/containerregistry/runs/get#runstatus."""


@dataclass(frozen=True)
class TaskRuns:
    """The runs of one registry.

    Attributes:
        client: The management client of the registry's subscription.
        group: The registry's resource group.
        registry: The registry's name.
        poll_seconds: Time between two polls of a run.
        cancel_seconds: How long a run that was canceled may take to end.
    """

    client: ContainerRegistryTasksMgmtClient
    group: str
    registry: str
    poll_seconds: float
    cancel_seconds: float

    @property
    def where(self) -> str:
        """What is asked, for messages."""
        return f"ACR Tasks of {self.registry}"

    def place_for_source(self) -> tuple[str, str]:
        """Where a source archive may be uploaded: the signed URL, and the name by which a run finds it."""
        with self._explained("for an upload location"):
            place = self.client.registries.get_build_source_upload_url(self.group, self.registry)
        return str(place.upload_url), str(place.relative_path)

    def upload(self, archive: Path) -> str:
        """Upload a source archive; the name by which a run finds it."""
        from azure.storage.blob import BlobClient

        url, name = self.place_for_source()
        with (
            self._explained("to take the source"),
            BlobClient.from_blob_url(url, **TIMEOUTS) as blob,
            archive.open("rb") as content,
        ):
            blob.upload_blob(content, overwrite=True)
        return name

    def schedule(self, request: RunRequest, started: Callable[[str], None]) -> str:
        """Start a run; its id.

        The service continues a request whose sender was interrupted. So an interrupt waits until the answer is
        there, and ends the run.

        Args:
            request: What to build.
            started: Receives the run's id first of all.
        """
        with ThreadPoolExecutor(1, "schedule run") as thread:
            scheduled = thread.submit(self._schedule, request)
            try:
                run_id = scheduled.result()
                started(run_id)
            except BaseException:
                with contextlib.suppress(FactoryError):
                    self.end(scheduled.result())
                raise
        return run_id

    def follow(
        self,
        run_id: str,
        tag: str,
        seconds: float,
        log: LogLine,
        still_wanted: Callable[[], None],
        secrets: Sequence[str],
    ) -> RunProperties:
        """Follow a run until it has succeeded. In any other case it is canceled.

        Args:
            run_id: The run.
            tag: What it builds, for messages.
            seconds: How long it may run, and how long it may wait for an agent before that.
            log: Receives the log's lines.
            still_wanted: Raises when the run is not wanted any more.
            secrets: Texts that may not appear in the log.

        Raises:
            BuildFailed: The run failed, another user canceled it, or its time is up.
            Unreachable: The service does not answer any more.
        """
        run_log = RunLog(lambda: self._log_link(run_id), log, secrets)
        until, waits = time.monotonic() + seconds, True
        try:
            while (run := self._get(run_id)).status not in _ENDED:
                now = time.monotonic()
                if waits and run.status not in _WAITING:
                    until, waits = now + seconds, False
                if now >= until:
                    break
                run_log.read_on()
                still_wanted()
                time.sleep(min(self.poll_seconds, max(until - time.monotonic(), 0)))
        except BaseException:
            with contextlib.suppress(FactoryError):
                self.end(run_id)
            raise
        if run.status not in _ENDED:
            self.end(run_id)
            raise deadline_fault(run_id, tag, seconds, run_log.finish(), waited=waits)
        tail = run_log.finish()
        if run.status != "Succeeded":
            raise run_fault(run, tag, tail)
        return run

    def end(self, run_id: str) -> None:
        """Cancel a run unless it has ended, and wait until it has: a running one may still push.

        Raises:
            Unreachable: It does not end in time, or the service does not answer.
        """
        if self._get(run_id).status in _ENDED:
            return
        with self._explained(f"to cancel run {run_id}"):
            self.client.runs.cancel(self.group, self.registry, run_id)
        until = time.monotonic() + self.cancel_seconds
        while (status := self._get(run_id).status) not in _ENDED:
            if time.monotonic() > until:
                raise Unreachable(
                    f"run {run_id} was canceled {self.cancel_seconds:g} s ago and is still {_word(status)}",
                    where=self.where,
                    hint="Cancel it in the portal. What it pushes is removed when the cleanup is repeated.",
                )
            time.sleep(min(self.poll_seconds, 1))

    def _schedule(self, request: RunRequest) -> str:
        with self._explained("to schedule a run"):
            run = self.client.registries.schedule_run(self.group, self.registry, request)
        return str(_properties(run).run_id)

    def _get(self, run_id: str) -> RunProperties:
        with self._explained(f"for run {run_id}"):
            return _properties(self.client.runs.get(self.group, self.registry, run_id))

    def _log_link(self, run_id: str) -> str:
        return str(self.client.runs.get_log_sas_url(self.group, self.registry, run_id).log_link)

    def _explained(self, asking: str) -> AbstractContextManager[None]:
        return explained(self.where, asking, role=_ROLE)


def _word(status: str | Enum | None) -> str:
    return str(status.value if isinstance(status, Enum) else status)


def _properties(run: Run) -> RunProperties:
    from azure.mgmt.containerregistrytasks.models import RunProperties

    return run.properties or RunProperties()
