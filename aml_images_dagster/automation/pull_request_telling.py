"""Telling the host of pull requests what is new. A host that does not answer is told later; no build waits for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aml_images_dagster.automation.pull_request_report import report_of, run_url
from aml_images_dagster.errors import FactoryError, Unreachable
from aml_images_dagster.pull_requests.hosts.interface import Status
from aml_images_dagster.pull_requests.tracking import Pause

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dagster as dg

    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.automation.pull_request_runs import PullRequestRuns
    from aml_images_dagster.pull_requests.hosts.interface import PullRequestHost
    from aml_images_dagster.pull_requests.tracking import Tracked, Tracking

_SECONDS = 1.0


class Telling:
    """Tells a host.

    Args:
        host: Whom.
        workshop: Settings, and the artifacts that reports are made from.
        instance: The runs that reports are about.
        runs: Those of pull requests among them.
    """

    def __init__(
        self, host: PullRequestHost, workshop: Workshop, instance: dg.DagsterInstance, runs: PullRequestRuns
    ) -> None:
        self._host = host
        self._workshop = workshop
        self._instance = instance
        self._runs = runs

    def tell(self, tracking: Tracking, now: float) -> Iterator[str]:
        """Tell what is new, for some time; those that were not admitted come last.

        Yields:
            What could not be told, and that the rest has to wait.
        """
        until = time.monotonic() + _SECONDS
        for number, tracked in tracking.in_order(lambda one: (one.phase == "refused", one.tell.until, one.seen)):
            is_due = tracked.superseded or tracked.told != tracked.to_tell
            if not is_due or tracked.tell.until > now:
                continue
            if time.monotonic() > until:
                yield "The others have yet to be told."
                return
            try:
                self._tell(number, tracked)
                tracked.tell = Pause(until=now)  # not a pause, but its place among the others
            except Exception as error:  # noqa: BLE001 - what a stranger has written must not stop the others
                tracked.tell.failed(now)
                why = error if isinstance(error, FactoryError) else repr(error)
                yield f"#{number} could not be told, and will be again: {why}"

    def _tell(self, number: int, tracked: Tracked) -> None:
        to_tell = tracked.to_tell
        for head in tracked.superseded:
            self._tell_cancelled(number, head, f"superseded by {tracked.head[:8]}")
        tracked.superseded = ()
        if tracked.told == to_tell:
            return
        report = report_of(tracked, self._workshop, self._instance)
        self._host.set_status(number, tracked.head, report.status)
        tracked.comment = self._host.write_comment(number, tracked.comment, report.comment)
        tracked.told = to_tell

    def tell_closed(self, number: int, tracked: Tracked) -> Iterator[str]:
        """Tell that what a closed one still had was cancelled. Once: who looks at it sees that it is closed.

        Yields:
            What could not be told.
        """
        heads = (*tracked.superseded, *([tracked.head] if tracked.is_being_built else []))
        try:
            for head in dict.fromkeys(heads):
                self._tell_cancelled(number, head, "the pull request was closed")
        except Unreachable as fault:
            yield f"#{number} could not be told: {fault}"

    def _tell_cancelled(self, number: int, head: str, why: str) -> None:
        records = self._runs.of(number, head)
        url = run_url(self._workshop, records[0].dagster_run) if records else ""
        self._host.set_status(number, head, Status("cancelled", why, url))
