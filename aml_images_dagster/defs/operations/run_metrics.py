"""Metrics from the Dagster instance: how long builds wait and run, and whether sensors and daemons are healthy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

import dagster as dg
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

from aml_images_dagster.defs.keys import BUILD_JOB, REQUEST_JOB
from aml_images_dagster.defs.request import BUILD_TAG, DAGSTER_UI, TRIGGER_TAG
from aml_images_dagster.defs.ticks import last_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from prometheus_client import Metric

_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
_QUEUE_BUCKETS = (1, 5, 15, 60, 300, 900, 3600)
_BUILD_BUCKETS = (15, 60, 180, 600, 1800, 3600, 7200, 14400)
_AT_ONCE = 1000
_OVERLAP = timedelta(minutes=1)
"""Clocks of several hosts differ, and a transaction is seen when it is committed."""


@dataclass(frozen=True, slots=True)
class _EndedRun:
    """A build that has ended, with its times in seconds."""

    outcome: str
    trigger: str
    waited: float
    ran: float


class RunMetrics:
    """Reads the instance; runs that have ended are read once.

    Args:
        instance: The instance.
    """

    name = "dagster"

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._ended: dict[str, _EndedRun] = {}
        self._updated: datetime | None = None

    def read(self) -> Iterable[Metric]:
        """See `MetricSource`. Raises what the instance's storage raises."""
        self._read_ended()
        runs = list(self._ended.values())
        yield _histogram(
            "aml_images_build_queue_seconds",
            "How long builds waited from the request to their start.",
            _QUEUE_BUCKETS,
            ["trigger"],
            [((run.trigger,), run.waited) for run in runs],
        )
        yield _histogram(
            "aml_images_build_seconds",
            "How long builds ran.",
            _BUILD_BUCKETS,
            ["outcome", "trigger"],
            [((run.outcome, run.trigger), run.ran) for run in runs],
        )
        now = GaugeMetricFamily("aml_images_builds_now", "Builds that wait or run.", labels=["state"])
        for state, statuses in (("queued", [dg.DagsterRunStatus.QUEUED]), ("running", _IN_PROGRESS)):
            asked = dg.RunsFilter(job_name=BUILD_JOB, statuses=statuses)
            now.add_metric([state], self._instance.get_runs_count(asked))
        yield now
        failing = GaugeMetricFamily(
            "aml_images_sensor_failing", "1 if the last tick of a sensor or schedule has failed.", labels=["sensor"]
        )
        for instigator, tick in last_ticks(self._instance):
            failing.add_metric([instigator.name], tick.is_failure)
        yield failing
        healthy = GaugeMetricFamily("aml_images_daemon_healthy", "Whether a daemon of Dagster runs.", labels=["daemon"])
        for daemon, status in self._instance.get_daemon_statuses().items():
            if status.required:
                healthy.add_metric([daemon], bool(status.healthy))
        yield healthy

    def _read_ended(self) -> None:
        """Runs that have ended since the last time. A tag that is added later brings a run up again."""
        cursor = None
        since = self._updated and self._updated - _OVERLAP
        asked = dg.RunsFilter(statuses=_FINISHED, updated_after=since)
        while records := self._instance.get_run_records(asked, limit=_AT_ONCE, ascending=True, cursor=cursor):
            cursor = records[-1].dagster_run.run_id
            for record in records:
                self._updated = max(self._updated or record.update_timestamp, record.update_timestamp)
                run = record.dagster_run
                # The run that a build was asked for with names its number, too.
                is_build = BUILD_TAG in run.tags and run.job_name != REQUEST_JOB
                if is_build and record.start_time and record.end_time:
                    self._ended[run.run_id] = _EndedRun(
                        _outcome(run),
                        run.tags.get(TRIGGER_TAG, DAGSTER_UI),
                        max(0.0, record.start_time - record.create_timestamp.timestamp()),
                        record.end_time - record.start_time,
                    )


def _outcome(run: dg.DagsterRun) -> str:
    """In the words of build.json."""
    return "succeeded" if run.is_success else "failed" if run.is_failure else "canceled"


def _histogram(
    name: str,
    documentation: str,
    bounds: Sequence[int],
    labels: Sequence[str],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for labeled, group in groupby(sorted(values), key=lambda pair: pair[0]):
        seconds = [value for _, value in group]
        family.add_metric(list(labeled), list(_buckets(bounds, seconds)), sum_value=sum(seconds))
    return family


def _buckets(bounds: Sequence[int], seconds: Sequence[float]) -> Iterator[tuple[str, float]]:
    for bound in bounds:
        yield str(float(bound)), sum(value <= bound for value in seconds)
    yield "+Inf", len(seconds)
