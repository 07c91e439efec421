"""Runs of ACR Tasks: scheduled, followed in their logs, ended; and what a failed one means."""

from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from aml_images_dagster.bounded import LONGEST_LOG, Lines, up_to
from aml_images_dagster.engine.interface import DockerfileFailed
from aml_images_dagster.engine.stream import LONGEST_TAIL_LINE, TAIL_LINES, parts_to_hide, redact
from aml_images_dagster.errors import BuildFailed, FactoryError, Unreachable
from aml_images_dagster.identity.faults import TIMEOUTS, explained
from aml_images_dagster.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from azure.mgmt.containerregistrytasks import ContainerRegistryTasksMgmtClient
    from azure.mgmt.containerregistrytasks.models import Run, RunProperties, RunRequest
    from azure.storage.blob import BlobClient

    from aml_images_dagster.engine.interface import LogLine

_ROLE = "Container Registry Tasks Contributor"
_ENDED = ("Succeeded", "Failed", "Canceled", "Error", "Timeout")
_WAITING = ("Queued", "Started")
"""Before an agent runs it. Source: https://learn.microsoft.com/rest/api/containerregistry/runs/get#runstatus."""
_PIECE_BYTES = 4 * 2**20
_MOST_AT_ONCE = 4
"""Pieces. A log that grows faster than it is read is read in part: its end says why a run failed."""
_EXPIRED = 403
_SLOW = "See in the log what it waits for, or give it more time (build_timeout_minutes)."
_HOST_TIMED_OUT = re.compile(r"hcsshim.*(timeout|timed out)|hcs::System.*(timeout|0xc0370109)", re.IGNORECASE)
_BASE_DOES_NOT_FIT = re.compile(r"no matching manifest for windows|operating system does not match", re.IGNORECASE)


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


class RunLog:
    """Reads on where it stopped.

    Args:
        find_link: Gives the log's URL with a signature; they end after a while, so it may be asked again.
        log: Receives the lines.
        secrets: Texts that may not appear in the log.
    """

    def __init__(self, find_link: Callable[[], str], log: LogLine, secrets: Iterable[str] = ()) -> None:
        self._find_link = find_link
        self._log = up_to(LONGEST_LOG, log)
        self._secrets = parts_to_hide(secrets)
        self._link = ""
        self._read_bytes = 0
        self._lines = Lines()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def read_on(self) -> None:
        """Pass on the lines that are new. A log that cannot be read now is read later."""
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.storage.blob import BlobClient

        try:
            self._link = self._link or self._find_link()
            with BlobClient.from_blob_url(self._link, **TIMEOUTS) as blob:
                left_bytes = self._read_piece(blob)
                if left_bytes > _MOST_AT_ONCE * _PIECE_BYTES:
                    left_out = left_bytes - _MOST_AT_ONCE * _PIECE_BYTES
                    self._write_rest()
                    self._write(f"[{left_out:,} bytes of the log are left out here]")
                    self._read_bytes += left_out
                for _ in range(_MOST_AT_ONCE):
                    if left_bytes > 0:
                        left_bytes = self._read_piece(blob)
        except HttpResponseError as error:
            if error.status_code == _EXPIRED:
                self._link = ""
        except AzureError:
            pass

    def finish(self) -> str:
        """Pass on the rest; the last lines of all."""
        self.read_on()
        self._write_rest()
        return "\n".join(self._tail)

    def _read_piece(self, blob: BlobClient) -> int:
        """Pass on a piece; how many bytes there are behind it."""
        found = blob.download_blob(offset=self._read_bytes, length=_PIECE_BYTES)
        new = found.readall()
        self._read_bytes += len(new)
        for line in self._lines.take(new):
            self._write(line)
        # Its `size` is that of the piece.
        return int(str(found.properties.content_range).rpartition("/")[2]) - self._read_bytes

    def _write_rest(self) -> None:
        for line in self._lines.rest():
            self._write(line)

    def _write(self, line: str) -> None:
        shown = redact(printable(line.rstrip().rsplit("\r", 1)[-1]), self._secrets)
        if shown:
            self._tail.append(shown[:LONGEST_TAIL_LINE])
            self._log(shown)


def run_fault(run: RunProperties, tag: str, tail: str) -> BuildFailed:
    """Say why a run did not succeed."""
    said = redact(run.run_error_message or "").strip()
    because = f": {said}" if said else ""
    what, hint = f"run {run.run_id} failed{because}", "The end of the log shows the failing instruction."
    if run.status == "Canceled":
        what, hint = (
            f"run {run.run_id} was canceled in the registry{because}",
            "A user of the registry canceled it: build again.",
        )
    elif run.status == "Timeout":
        what, hint = f"run {run.run_id} was stopped at its deadline{because}", _SLOW
    elif run.status == "Error":
        hint = f"ACR Tasks itself failed: build again; support wants the run id {run.run_id}."
    elif _BASE_DOES_NOT_FIT.search(tail):
        hint = "The agents run another Windows than the base needs: change the base, or use a Windows engine by URL."
    kind = DockerfileFailed if run.status == "Failed" else BuildFailed
    return kind(what, where=tag, hint=hint, log=tail)


def deadline_fault(run_id: str, tag: str, seconds: float, tail: str, *, waited: bool) -> BuildFailed:
    """The error of a run that was stopped at its deadline, or whose turn had not come by then."""
    if waited:
        what = f"run {run_id} waited {seconds:g} s for an agent and was canceled"
        hint = "See in the portal what else runs there, use a larger agent pool, or allow more time "
        return BuildFailed(what, where=tag, hint=f"{hint}(build_timeout_minutes).", log=tail)
    return BuildFailed(f"run {run_id} was stopped at its deadline of {seconds:g} s", where=tag, hint=_SLOW, log=tail)


def host_timed_out(failure: BuildFailed) -> bool:
    """Whether a Windows agent was too slow to start a container, which is not a fault of the image."""
    return _HOST_TIMED_OUT.search(failure.log) is not None
