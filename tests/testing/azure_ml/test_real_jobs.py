"""Jobs that really run: submitted by the SDK, then the staged image with one container for each node."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from tests.emulators.azure import job_containers
from tests.emulators.azure.job_containers import JobContainers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.testing.azure_ml.runner import AzureMlRunner
    from tests.emulators.azure.machine_learning import MachineLearning
    from tests.testing.azure_ml.conftest import MakeJob

pytestmark = pytest.mark.engine

SCRIPTS = Path(__file__).parents[3] / "base_images" / "tests"


@pytest.fixture
def clockwork() -> JobContainers:
    """In place of jobs that run nothing."""
    return JobContainers()


@pytest.fixture(autouse=True)
def nothing_left(workspace: MachineLearning) -> Iterator[None]:
    """After each test no container of these jobs is there."""
    yield
    client = docker.from_env()
    try:
        assert workspace.live() == []
        left = client.containers.list(
            ignore_removed=True, all=True, filters={"label": f"aml-images.build={job_containers.BUILD}"}
        )
        assert [c.name for c in left if any(c.name.startswith(name) for name in workspace.jobs)] == []
    finally:
        client.close()


def log_of(workspace: MachineLearning, name: str, path: str = "user_logs/std_log.txt") -> str:
    return workspace.blobs.containers[f"logs-{name}"][path].content.decode()


def test_mpi_over_two_nodes(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, mpi_image: str, build: str
) -> None:
    job = make_job(
        mpi_image, {"a": ""}, script="scripts/mpi_allreduce.py", nodes=2, distribution="mpi", processes_per_node=2
    )
    shutil.copytree(SCRIPTS / "scripts", job.code / "scripts")
    result = runner.run(job, print)
    assert result.status == "passed", result.reason
    assert "sum 10 over 4 ranks on 2 host(s): node0, node1" in log_of(
        workspace, job.name, "user_logs/std_log_process_0.txt"
    )
    assert result.seconds > 0
    assert runner.live(build) == []


def test_pytorch_ranks(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, shell_image: str, build: str
) -> None:
    script = "echo rank $RANK of $WORLD_SIZE on $NODE_RANK for $AML_IMAGES_BUILD in $AML_IMAGES_OUTPUTS; ls -d outputs"
    job = make_job(shell_image, {"a.sh": script}, nodes=2, distribution="pytorch")
    result = runner.run(job, print)
    assert result.status == "passed", result.reason
    for node in (0, 1):
        log = log_of(workspace, job.name, f"user_logs/std_log_process_{node}.txt")
        assert log == f"rank {node} of 2 on {node} for {build} in outputs\noutputs\n"


def test_a_node_that_fails(runner: AzureMlRunner, make_job: MakeJob, shell_image: str) -> None:
    script = 'echo here is $NODE_RANK; [ "$NODE_RANK" = 0 ] && sleep 30; echo the loss is nan; exit 3'
    result = runner.run(make_job(shell_image, {"a.sh": script}, nodes=2, distribution="pytorch"), print)
    assert result.status == "failed"
    assert [log.node for log in result.logs] == ["node0", "node1"]
    assert result.logs[1].text == "here is 1\nthe loss is nan\n"
    assert "the loss is nan" in result.reason


def test_pytest_in_the_image(runner: AzureMlRunner, make_job: MakeJob, mpi_image: str) -> None:
    tests = (
        "import os\ndef test_good(): pass\ndef test_bad(): assert os.environ['ONLY_IN_THE_IMAGE'] == 'no', 'wrong'\n"
    )
    files = {"base_images/tests/test_a.py": tests}
    result = runner.run(make_job(mpi_image, files, kind="pytest", path="base_images/tests/test_a.py"), print)
    assert result.status == "failed"
    assert result.reason == "base_images/tests/test_a.py::test_bad - AssertionError: wrong"
    assert "1 failed, 1 passed" in result.logs[0].text


def test_a_job_that_is_canceled_ends_its_containers(
    runner: AzureMlRunner, workspace: MachineLearning, make_job: MakeJob, shell_image: str
) -> None:
    def interrupt(line: str) -> None:
        if line.endswith("Running"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(make_job(shell_image, {"a.sh": "sleep 60"}, nodes=2, distribution="pytorch"), interrupt)
    assert [job.status for job in workspace.jobs.values()] == ["Canceled"]
