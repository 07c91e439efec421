"""Metrics of a real Dagster instance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from aml_images_dagster.defs.keys import BUILD_JOB, REQUEST_JOB
from aml_images_dagster.defs.operations.run_metrics import RunMetrics
from aml_images_dagster.defs.request import BUILD_TAG, TRIGGER_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def add_run(
    instance: dg.DagsterInstance,
    waited: float,
    ran: float,
    end: dg.DagsterEventType,
    job: str = BUILD_JOB,
    **tags: str,
) -> None:
    """A run as it goes on, event by event."""
    with freeze_time(NOW):
        run = instance.add_run(dg.DagsterRun(job, tags={BUILD_TAG: "x", **tags}))
    for after, kind in ((waited, dg.DagsterEventType.RUN_START), (waited + ran, end)):
        with freeze_time(NOW + timedelta(seconds=after)):
            instance.report_dagster_event(dg.DagsterEvent(kind.value, job), run.run_id)


def samples(metrics: RunMetrics) -> dict[str, float]:
    read = (sample for family in metrics.read() for sample in family.samples)
    return {" ".join((sample.name, *sample.labels.values())): sample.value for sample in read}


def test_waiting_and_running_of_builds(instance: dg.DagsterInstance) -> None:
    metrics = RunMetrics(instance)
    assert samples(metrics)["aml_images_builds_now queued"] == 0
    schedule = {TRIGGER_TAG: "schedule"}
    add_run(instance, 10, 100, dg.DagsterEventType.RUN_SUCCESS, **schedule)
    add_run(instance, 100, 1000, dg.DagsterEventType.RUN_SUCCESS, **schedule)
    add_run(instance, 0, 5, dg.DagsterEventType.RUN_FAILURE)
    for _ in range(2):
        found = samples(metrics)
        assert found["aml_images_build_queue_seconds_count schedule"] == 2
        assert found["aml_images_build_queue_seconds_sum schedule"] == pytest.approx(110, abs=0.1)
        assert found["aml_images_build_queue_seconds_bucket schedule 15.0"] == 1
        assert found["aml_images_build_seconds_sum succeeded schedule"] == pytest.approx(1100, abs=0.1)
        assert found["aml_images_build_seconds_bucket succeeded schedule 180.0"] == 1
        assert found["aml_images_build_seconds_bucket succeeded schedule +Inf"] == 2
        assert found["aml_images_build_seconds_count failed Dagster UI"] == 1


def test_a_build_counts_when_it_ends_and_other_runs_never(instance: dg.DagsterInstance) -> None:
    metrics = RunMetrics(instance)
    add_run(instance, 0, 5, dg.DagsterEventType.RUN_SUCCESS)
    samples(metrics)
    add_run(instance, 0, 5, dg.DagsterEventType.RUN_SUCCESS)
    add_run(instance, 0, 5, dg.DagsterEventType.RUN_SUCCESS, REQUEST_JOB)
    with freeze_time(NOW):
        instance.add_run(dg.DagsterRun("cleanup", status=dg.DagsterRunStatus.SUCCESS))
        instance.add_run(dg.DagsterRun(BUILD_JOB, status=dg.DagsterRunStatus.STARTED))
    found = samples(metrics)
    assert found["aml_images_build_seconds_count succeeded Dagster UI"] == 2
    assert found["aml_images_builds_now running"] == 1
