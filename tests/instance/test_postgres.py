"""An instance on a real Postgres, by the configuration in deploy/."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.cli.instance import open_instance
from aml_images_dagster.defs.operations.run_metrics import RunMetrics
from aml_images_dagster.settings import load_settings
from tests.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.services

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "dagster-postgres.yaml"
SECONDS = 90


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def instance(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    for name in [name for name in os.environ if name.startswith(("AML_IMAGES_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(CONFIGURATION)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with open_instance(load_settings(repo=tmp_path)) as instance:
        yield instance


def test_runs_whose_steps_are_forks_are_recorded_in_it(
    instance: dg.DagsterInstance, server: PostgresServer, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    job = [sys.executable, "-W", "ignore", "-c", "from tests.instance.jobs import main; main()", "placed"]
    subprocess.run(job, env=os.environ | {"MARKS": str(marks)}, check=True, timeout=SECONDS, capture_output=True)
    (run,) = instance.get_runs(dg.RunsFilter(job_name="placed"))
    assert run.status is dg.DagsterRunStatus.SUCCESS
    steps = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS).records
    assert {record.event_log_entry.step_key for record in steps} == {"where", "after"}
    assert (marks / "parent").read_text() == (marks / "process").read_text(), "the step is a fork of the run"
    assert server.query(f"select status from runs where run_id = '{run.run_id}'") == "SUCCESS"


def test_pools_have_their_limits_and_events_are_seen_as_they_come(instance: dg.DagsterInstance) -> None:
    assert {info.name for info in instance.event_log_storage.get_pool_limits()} >= {"docker_build", "image_test"}
    run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job())
    seen: list[str] = []
    instance.watch_event_logs(run.run_id, None, lambda entry, _: seen.append(entry.message))
    deadline = time.monotonic() + SECONDS
    while not any("hello" in message for message in seen):
        assert time.monotonic() < deadline, "no event came"
        instance.report_engine_event("hello", run)
        time.sleep(0.2)


def test_metrics_are_read_from_it(instance: dg.DagsterInstance) -> None:
    names = {family.name for family in RunMetrics(instance).read()}
    assert "aml_images_builds_now" in names


def test_what_was_recorded_is_there_after_a_crash_of_the_database(
    instance: dg.DagsterInstance, server: PostgresServer
) -> None:
    run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job())
    server.stop("immediate")
    server.start()
    assert instance.get_run_by_id(run.run_id) is not None


@pytest.mark.parametrize(
    ("step", "outage", "ends"),
    [
        pytest.param(15, 12, "SUCCESS", id="while a step works"),
        pytest.param(3, 30, "FAILURE", id="longer than Dagster tries to connect when the step ends"),
    ],
)
def test_a_run_ends_as_it_should_when_the_database_was_away(
    instance: dg.DagsterInstance, server: PostgresServer, tmp_path: Path, step: int, outage: int, ends: str
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    job = [sys.executable, "-W", "ignore", "-c", "from tests.instance.jobs import main; main()", "lasting"]
    environment = os.environ | {"MARKS": str(marks), "SECONDS_OF_THE_STEP": str(step)}
    with subprocess.Popen(job, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + SECONDS
        while not (marks / "began").exists():
            assert time.monotonic() < deadline, "the step has not begun"
            time.sleep(0.1)
        server.stop()
        time.sleep(outage)
        server.start()
        process.wait(SECONDS)
    runs = instance.get_runs(dg.RunsFilter(job_name="lasting"), limit=1)
    assert [run.status.value for run in runs] == [ends]
