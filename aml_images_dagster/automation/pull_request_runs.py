"""The runs of pull requests in a Dagster instance: their tags tell whose they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.assets.keys import BUILD_JOB
from aml_images_dagster.assets.request import (
    COMMIT_TAG,
    PULL_REQUEST_TAG,
    REMOTE_TAG,
    SEEN_TAG,
    TRIGGER_TAG,
    build_config,
    pull_request_keys,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aml_images_dagster.builds.selection import Selection
    from aml_images_dagster.pull_requests.tracking import Tracked

_TRIGGER = "pull request"
_RUNNING = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)


class PullRequestRuns:
    """The runs of the pull requests of one remote; two code locations of an instance may have different ones.

    Args:
        instance: Where they are.
        remote: The remote, as runs name it.
    """

    def __init__(self, instance: dg.DagsterInstance, remote: str) -> None:
        self._instance = instance
        self._remote = remote
        self._tags = {TRIGGER_TAG: _TRIGGER, REMOTE_TAG: remote}

    def request(self, number: int, tracked: Tracked, reasons: Selection) -> dg.RunRequest:
        """Ask for one that builds images of a head, each with its reasons; Dagster starts no second one like it."""
        return dg.RunRequest(
            run_key=f"{self._remote} {number} {tracked.head} {tracked.seen}",
            job_name=BUILD_JOB,
            asset_selection=pull_request_keys(reasons),
            run_config=build_config(
                source_commit=tracked.head, reasons={image: list(why) for image, why in reasons.items()}
            ),
            tags={
                **self._tags,
                PULL_REQUEST_TAG: str(number),
                COMMIT_TAG: tracked.head,
                SEEN_TAG: str(tracked.seen),
            },
        )

    def running(self) -> Sequence[dg.DagsterRun]:
        """Those that have not ended, and that nobody has cancelled."""
        return self._instance.get_runs(dg.RunsFilter(tags=self._tags, statuses=list(_RUNNING)))

    def updated_since(self, since: float) -> Sequence[dg.RunRecord]:
        """Those that have gone on since a time, in seconds since the epoch; newest first."""
        updated_after = datetime.fromtimestamp(max(0, since), UTC)
        return self._instance.get_run_records(dg.RunsFilter(tags=self._tags, updated_after=updated_after))

    def of(self, number: int, commit: str = "") -> Sequence[dg.RunRecord]:
        """Those of one pull request, or of one commit of it; newest first."""
        wanted: Mapping[str, str] = {PULL_REQUEST_TAG: str(number), **({COMMIT_TAG: commit} if commit else {})}
        return self._instance.get_run_records(dg.RunsFilter(tags={**self._tags, **wanted}))

    def cancel(self, run: dg.DagsterRun) -> None:
        """Cancel one; the cleanup ends its build."""
        self._instance.run_coordinator.cancel_run(run.run_id)


def number_of(run: dg.DagsterRun) -> int:
    """The number of the pull request that a run is for."""
    return int(run.tags[PULL_REQUEST_TAG])


def commit_of(run: dg.DagsterRun) -> str:
    """The commit that a run builds."""
    return run.tags[COMMIT_TAG]


def seen_of(run: dg.DagsterRun) -> float:
    """When the pull request was first seen open with that commit; see `Tracked.seen`."""
    return float(run.tags.get(SEEN_TAG, 0))
