"""The fork executor in `dagster dev`: runs are launched and terminated by its GraphQL, as the UI does."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from tests.browser.dagster_ui import DagsterUi
from tests.instance.test_fork_executor import lives, until

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """mutation ($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE)
    { __typename ... on PythonError { message } } }"""
LOGS = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { eventConnection(limit: 1000)
    { events { ... on LogsCapturedEvent { fileKey stepKeys } ... on EngineEvent { message } } } } } }"""
CAPTURED = "query ($key: [String!]!) { capturedLogs(logKey: $key) { stdout } }"


def launch(ui: DagsterUi, job: str) -> str:
    selector = {"repositoryName": "__repository__", "repositoryLocationName": "jobs", "jobName": job}
    answer = ui.graphql(LAUNCH, params={"selector": selector, "runConfigData": {}})["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


def test_runs_and_their_steps_are_forked_shown_and_terminated(
    image_repository: ImageRepository, tmp_path: Path
) -> None:
    marks, workspace = tmp_path / "marks", tmp_path / "workspace.yaml"
    marks.mkdir()
    workspace.write_text("load_from: [{python_module: {module_name: tests.instance.jobs, location_name: jobs}}]\n")
    settings = {"MARKS": str(marks), "PYTHONPATH": str(ROOT)}
    with DagsterUi(image_repository.root, tmp_path / "dagster", workspace, settings) as ui:
        placed = launch(ui, "placed")
        assert ui.finished_run(placed)["status"] == "SUCCESS"
        events = ui.graphql(LOGS, id=placed)["runOrError"]["eventConnection"]["events"]
        assert any("Fork executor" in event.get("message", "") for event in events)
        (key,) = [event["fileKey"] for event in events if event.get("stepKeys") == ["where"]]
        log = ui.graphql(CAPTURED, key=[placed, "compute_logs", key])["capturedLogs"]["stdout"]
        assert log == "printed by Python\n"

        server = int((marks / "grandparent").read_text())
        assert len([*Path(f"/proc/{server}/task").iterdir()]) == 1  # another thread could hold a lock in each fork
        assert "multiprocessing.forkserver" in Path(f"/proc/{server}/cmdline").read_text()
        os.kill(server, signal.SIGTERM)  # as that of a whole group, which it outlives
        assert ui.finished_run(launch(ui, "placed"))["status"] == "SUCCESS"
        assert int((marks / "grandparent").read_text()) == server

        interrupted = launch(ui, "interrupted")
        until((marks / "began").exists, "no step began")
        step = int((marks / "began").read_text())
        assert ui.graphql(TERMINATE, id=interrupted)["terminateRun"]["__typename"] == "TerminateRunSuccess"
        assert ui.finished_run(interrupted)["status"] == dg.DagsterRunStatus.CANCELED.value
        assert (marks / "cleaned up").read_text() == "DagsterExecutionInterruptedError"
        until(lambda: not lives(step), "the step goes on")

        (code_server,) = ui.processes(" api grpc ")
        os.kill(code_server, signal.SIGKILL)
        until(lambda: not lives(server), "the server that runs are forked from outlives the code server")
