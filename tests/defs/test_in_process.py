"""Runs whose steps have no process of their own: each names its process, and writes heartbeats until it is killed."""

import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from aml_images_dagster.builds import process
from aml_images_dagster.defs.in_process import in_process_executor
from aml_images_dagster.defs.run_state import InstanceRuns
from aml_images_dagster.settings import Settings

PATIENCE = 300.0


@dg.op
def sleeps() -> None:
    print("asleep", flush=True)
    time.sleep(600)


@dg.job(executor_def=in_process_executor(Settings(repo=Path("/repository"), host_patience_seconds=PATIENCE)))
def sleeping() -> None:
    sleeps()


@pytest.fixture
def killed(tmp_path: Path) -> dg.DagsterInstance:
    """An instance with a run that was killed in mid-step."""
    code = (
        "import sys; import dagster as dg; from tests.defs.test_in_process import sleeping\n"
        "with dg.DagsterInstance.from_config(sys.argv[1]) as instance:\n"
        "    dg.execute_job(dg.reconstructable(sleeping), instance=instance)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert any("asleep" in line for line in run.stdout)
        run.kill()
    return dg.DagsterInstance.from_config(str(tmp_path))


def statuses(instance: dg.DagsterInstance) -> list[dg.DagsterRunStatus]:
    return [run.status for run in instance.get_runs()]


def test_a_run_that_was_killed_is_ended_by_whoever_sees_its_process(killed: dg.DagsterInstance) -> None:
    assert statuses(killed) == [dg.DagsterRunStatus.STARTED]
    InstanceRuns(killed, PATIENCE).end_dead()
    assert statuses(killed) == [dg.DagsterRunStatus.FAILURE]


def test_a_run_whose_host_was_killed_is_ended_by_another_host(
    killed: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_here", lambda: "another-host:machine:boot:4026531836")
    runs, now = InstanceRuns(killed, PATIENCE), time.time()
    runs.end_dead()
    assert statuses(killed) == [dg.DagsterRunStatus.STARTED], "it may still live"
    for _ in range(2):
        now += PATIENCE
        monkeypatch.setattr(time, "time", lambda now=now: now)
        runs.end_dead()
    assert statuses(killed) == [dg.DagsterRunStatus.FAILURE]
