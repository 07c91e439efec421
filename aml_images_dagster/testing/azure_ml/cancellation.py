"""Cancellation of jobs, with verification that they have ended."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.testing.azure_ml.job_state import ENDS
from aml_images_dagster.testing.azure_ml.workspace import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aml_images_dagster.testing.azure_ml.workspace import Workspace

_FIRST_LOOK_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 10.0


def end_jobs(workspace: Workspace, names: Iterable[str], seconds: float) -> None:
    """Cancel jobs and wait until none of them runs any more. Jobs that have ended, or never were, are left alone.

    Args:
        workspace: Where they are.
        names: Their names.
        seconds: Longest time to wait after they are canceled; a job can stay in CancelRequested for hours.

    Raises:
        Unreachable: Some of them have not ended in time, or the service does not answer.
    """
    until: float | None = None
    pause = _FIRST_LOOK_SECONDS
    asked: set[str] = set()
    with ThreadPoolExecutor(AT_ONCE, "end jobs") as pool:
        left = _running(workspace, names, pool)
        while left:
            # One that was Finalizing refuses, and one in CancelRequested was canceled by another process.
            news = [name for name, status in left.items() if name not in asked and status != "CancelRequested"]
            list(pool.map(workspace.cancel, news))
            asked.update(news)
            until = time.monotonic() + seconds if until is None else until  # to ask for many takes its time, too
            if time.monotonic() > until:
                listed = ", ".join(f"{name} ({status})" for name, status in sorted(left.items()))
                raise Unreachable(
                    f"canceled, but not ended within {seconds:g} s: {listed}",
                    where=f"Azure ML workspace {workspace.name}",
                    hint="The cleanup is repeated until they have ended; see them in the Studio.",
                )
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS, max(until - time.monotonic(), 0) + 0.01)
            left = _running(workspace, left, pool)


def _running(workspace: Workspace, names: Iterable[str], pool: ThreadPoolExecutor) -> dict[str, str]:
    """The status of those jobs that have not ended."""
    found = pool.map(workspace.find, list(names))
    return {job.name: job.status for job in found if job and job.status not in ENDS}
